//! What nobody may guess, from the operating system's generator, and names that are never given
//! twice.

use super::refused::{Refused, StoreError};
use crate::config::Secret;
use ring::rand::{SecureRandom, SystemRandom};

/// The digits of base32hex (RFC 4648 §7) in lower case: texts sort as the bits do.
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Bits of a digit.
const DIGIT_BITS: usize = 5;
/// Digits of an id, as in `br7si8mg10l7an82que0`.
const ID_LEN: usize = 20;
/// Random bytes in an id, behind six bytes of time.
const ID_RANDOM_LEN: usize = 6;
/// Characters of a generated token or password: 130 bits, which nobody tries out.
pub const SECRET_LEN: usize = 26;

/// So many random bytes.
///
/// # Errors
/// When the system gives none.
pub fn bytes<const N: usize>() -> Result<[u8; N], Refused> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::new("the system gives no random numbers"))?;
    Ok(bytes)
}

/// A fresh token or password.
///
/// # Errors
/// When the system gives no random numbers.
pub fn secret() -> Result<Secret, Refused> {
    let bytes: [u8; SECRET_LEN] = bytes()?;
    // 32 divides 256: each digit is as likely as another.
    Ok(Secret::new(
        bytes.map(|byte| char::from(DIGITS[usize::from(byte & 31)])).iter().collect::<String>(),
    ))
}

/// An id of this point in time: 48 bits of milliseconds, then 48 random ones, so that ids sort by
/// time and cannot be guessed from one another. The caller gives no point in time twice.
///
/// # Errors
/// When the system gives no random numbers.
pub fn id(ms: u64) -> Result<String, Refused> {
    let random: [u8; ID_RANDOM_LEN] = bytes()?;
    let mut bits = u128::from(ms & 0xffff_ffff_ffff);
    for byte in random {
        bits = bits << 8 | u128::from(byte);
    }
    // 96 bits are 19 digits and a bit: the last digit is 0 or g.
    bits <<= ID_LEN * DIGIT_BITS - 96;
    let digit = |at: usize| DIGITS[(bits >> (DIGIT_BITS * (ID_LEN - 1 - at))) as usize & 31];
    Ok((0..ID_LEN).map(|at| char::from(digit(at))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_twenty_digits_and_sort_by_time() {
        let ids: Vec<String> =
            (0..1_000u64).map(|i| id(1_700_000_000_000 + i * 37).expect("random")).collect();
        assert!(ids.is_sorted());
        for id in &ids {
            assert_eq!(id.len(), ID_LEN);
            assert!(id.bytes().all(|byte| DIGITS.contains(&byte)), "{id}");
        }
        assert_eq!(id(0).expect("random")[..9], *"000000000");
    }

    #[test]
    fn secrets_are_long_and_differ() {
        let secrets: HashSet<String> =
            (0..1_000).map(|_| secret().expect("random").expose().to_owned()).collect();
        assert_eq!(secrets.len(), 1_000);
        assert!(secrets.iter().all(|secret| secret.len() == SECRET_LEN));
    }
}
