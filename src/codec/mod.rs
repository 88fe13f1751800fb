//! Wire formats, pure: borrowed slices in, borrowed views out; bytes are appended to the caller's
//! buffer. Nothing here does I/O, reads a clock or knows a runtime.

pub mod avro;
pub mod kp1;
pub mod mqtt;
pub mod nats;
pub mod subjects;
