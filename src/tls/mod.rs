//! The server's side of TLS for devices: made from files, and made anew when they change.
//!
//! A [`Profile`] is what one or more doors speak TLS by. It never changes; a new one takes its
//! place, and connections that are there live on with theirs.

mod files;
mod profile;
mod renew;
mod sni;
#[cfg(test)]
mod tests;
mod trust;

pub use files::BadFile;
pub use profile::{PeerCertificate, Profile, load};
pub use renew::{Renewal, Renewed, Slot};
