//! Masking of what a client sends (RFC 6455 §5.3).

/// Takes the mask off `bytes` where they lie; returns the key turned so that it fits what follows.
///
/// Eight bytes at a time, which the compiler makes wider still where the processor can.
pub(super) fn unmask(bytes: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    let turned = bytes.len() % 4;
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
    let mut key = key;
    key.rotate_left(turned);
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_meets_its_own_byte_of_the_key_whatever_the_pieces(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4],
            pieces in prop::collection::vec(1usize..40, 1..5),
        ) {
            let expected: Vec<u8> =
                bytes.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
            let mut unmasked = bytes;
            let (mut rest, mut turned) = (&mut unmasked[..], key);
            for size in pieces.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, others) = rest.split_at_mut((*size).min(rest.len()));
                turned = unmask(piece, turned);
                rest = others;
            }
            prop_assert_eq!(unmasked, expected);
        }
    }
}
