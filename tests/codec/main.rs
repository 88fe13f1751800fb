//! The wire formats against independent implementations, against properties and against the fuzz
//! corpus.

mod avro;
mod corpus;
mod kp1;
mod mqtt;
mod nats;
mod records;
