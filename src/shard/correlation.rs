//! The correlationId of a ClientData. It is opaque to everybody else; to us it tells, when an
//! extension service echoes it, which connection asked and at which QoS, so that no table of
//! pending requests is needed.

use crate::codec::mqtt::QoS;

/// Names a connection of this shard; stale once the connection has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// Place in the shard's table.
    pub index: u32,
    /// Which of the connections that had this place.
    pub generation: u32,
}

/// What a correlation id carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correlation {
    /// The connection the request came from.
    pub connection: ConnectionKey,
    /// QoS of the request, which its answer takes over (1/KP §Response); `None`: it came over HTTP.
    pub qos: Option<QoS>,
    /// Number of the message on this shard, wrapping: makes the id unique for tracing.
    pub sequence: u32,
}

/// Stands for no QoS.
const HTTP: u128 = 3;
/// 32 + 32 + 32 + 2 bits in digits of 6 bits each.
const DIGITS: usize = 17;
const ALPHABET: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-";

/// The longest prefix: a replica id and a shard number.
const PREFIX_BYTES_MAX: usize = 96;

/// Writes and reads the correlation ids of one shard.
#[derive(Debug)]
pub struct Correlations {
    text: [u8; PREFIX_BYTES_MAX + DIGITS],
    prefix_len: usize,
}

impl Correlations {
    /// For the shard whose replica subject is named `replica`; ids begin with it and a dash. A
    /// longer name than 95 bytes is cut, which costs nothing but readability.
    pub fn new(replica: &str) -> Self {
        let mut text = [0; PREFIX_BYTES_MAX + DIGITS];
        let mut prefix_len = replica.len().min(PREFIX_BYTES_MAX - 1);
        while !replica.is_char_boundary(prefix_len) {
            prefix_len -= 1;
        }
        text[..prefix_len].copy_from_slice(&replica.as_bytes()[..prefix_len]);
        text[prefix_len] = b'-';
        Self { text, prefix_len: prefix_len + 1 }
    }

    /// The text of an id, valid until the next call.
    #[inline]
    pub fn encode(&mut self, correlation: Correlation) -> &[u8] {
        let mut bits = u128::from(correlation.connection.index) << 66
            | u128::from(correlation.connection.generation) << 34
            | u128::from(correlation.sequence) << 2
            | correlation.qos.map_or(HTTP, |qos| qos as u128);
        let end = self.prefix_len + DIGITS;
        for digit in self.text[self.prefix_len..end].iter_mut().rev() {
            *digit = ALPHABET[(bits & 63) as usize];
            bits >>= 6;
        }
        &self.text[..end]
    }

    /// Reads an id back; `None` when this shard did not write it.
    pub fn decode(&self, text: &str) -> Option<Correlation> {
        let digits = text.as_bytes().strip_prefix(&self.text[..self.prefix_len])?;
        if digits.len() != DIGITS {
            return None;
        }
        let bits = digits
            .iter()
            .try_fold(0u128, |bits, &digit| Some(bits << 6 | u128::from(value_of(digit)?)))?;
        Some(Correlation {
            connection: ConnectionKey {
                index: (bits >> 66) as u32,
                generation: (bits >> 34) as u32,
            },
            sequence: (bits >> 2) as u32,
            qos: QoS::from_u8((bits & 3) as u8),
        })
    }
}

fn value_of(digit: u8) -> Option<u8> {
    Some(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'z' => digit - b'a' + 10,
        b'A'..=b'Z' => digit - b'A' + 36,
        b'_' => 62,
        b'-' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_back_what_it_wrote(index: u32, generation: u32, sequence: u32, qos in 0u8..4) {
            let correlation = Correlation {
                connection: ConnectionKey { index, generation },
                sequence,
                qos: QoS::from_u8(qos),
            };
            let mut correlations = Correlations::new("replica-0");
            let text = String::from_utf8(correlations.encode(correlation).to_vec()).expect("ASCII");
            prop_assert_eq!(correlations.decode(&text), Some(correlation));
            prop_assert_eq!(Correlations::new("replica-1").decode(&text), None);
        }

        #[test]
        fn survives_whatever_an_extension_sends(text: String) {
            let _ = Correlations::new("r-0").decode(&text);
            let _ = Correlations::new("r-0").decode(&format!("r-0-{text}"));
        }
    }

    #[test]
    fn a_long_replica_name_is_cut_at_a_character() {
        let mut correlations = Correlations::new(&"é".repeat(80));
        let correlation = Correlation {
            connection: ConnectionKey { index: 1, generation: 2 },
            sequence: 3,
            qos: Some(QoS::AtMostOnce),
        };
        let text = String::from_utf8(correlations.encode(correlation).to_vec()).expect("UTF-8");
        assert_eq!(correlations.decode(&text), Some(correlation));
    }
}
