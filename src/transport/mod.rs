//! What lies between the bytes of a device's socket and its MQTT packets, or requests. Pure: bytes
//! in, bytes out; sockets and clocks are the shard's.

mod head;
pub mod http;
pub mod proxy;
pub mod tls;
pub mod websocket;
