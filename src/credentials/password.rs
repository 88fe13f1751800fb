//! Passwords at rest: argon2id, as PHC strings.

use super::random;
use super::refused::{Refused, StoreError};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// Memory of one hash, in KiB. With [`PASSES`] and [`LANES`] the first choice of OWASP's Password
/// Storage Cheat Sheet for argon2id where 46 MiB a login are too many.
pub const MEMORY_KIB: u32 = 19 * 1_024;
/// Passes over the memory.
pub const PASSES: u32 = 2;
/// Lanes of the memory.
pub const LANES: u32 = 1;
/// Bytes of a salt, as RFC 9106 §3.1 recommends.
const SALT_LEN: usize = 16;

/// The hasher with our parameters.
fn hasher() -> Result<Argon2<'static>, Refused> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| StoreError::new(format!("argon2 refuses its parameters: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The PHC string of a password, with a salt of its own. Takes tens of milliseconds and
/// [`MEMORY_KIB`], on purpose.
///
/// # Errors
/// When the system gives no random numbers or no memory.
pub fn hash(password: &str) -> Result<String, Refused> {
    let salt: [u8; SALT_LEN] = random::bytes()?;
    let hash: PasswordHash = hasher()?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|error| StoreError::new(format!("a password could not be hashed: {error}")))?;
    Ok(hash.to_string())
}

/// Whether this is the password of the PHC string, which says the parameters itself. As dear as
/// [`hash`].
///
/// # Errors
/// When the string is none of argon2, or the system gives no memory.
pub fn is_of(password: &str, phc: &str) -> Result<bool, Refused> {
    let stored = PasswordHash::new(phc)
        .map_err(|error| StoreError::new(format!("a stored password cannot be read: {error}")))?;
    match hasher()?.verify_password(password.as_bytes(), &stored) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => {
            Err(StoreError::new(format!("a password could not be verified: {error}")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_verified_and_its_hash_says_how_it_was_made() {
        let hash = hash("s3cret").expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(is_of("s3cret", &hash).expect("verifies"));
        assert!(!is_of("s3cret ", &hash).expect("verifies"));
        assert!(!is_of("", &hash).expect("verifies"));
        assert_ne!(hash, super::hash("s3cret").expect("hashes"), "a salt of its own");
    }

    #[test]
    fn a_hash_with_other_parameters_is_verified_with_those() {
        // A test vector of the reference implementation.
        let hash = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$\
                    bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        assert!(is_of("password", hash).expect("verifies"));
        assert!(is_of("password", "$2b$12$abc").is_err());
    }
}
