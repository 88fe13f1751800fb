//! "Did you mean …?"

/// The candidate most like `word`, if one is like it: few letters differ, dashes, underscores and
/// case apart.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = letters(word);
    let differing_max = (word.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&word, &letters(candidate)), candidate))
        .filter(|(distance, _)| *distance <= differing_max)
        .min()
        .map(|(_, candidate)| candidate)
}

fn letters(text: &str) -> Vec<char> {
    text.chars().filter(|c| !"-_".contains(*c)).flat_map(char::to_lowercase).collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (the
/// optimal string alignment distance).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    // distance[i][j] is that of the first i letters of `a` and the first j of `b`.
    let mut distance = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                distance[i][j] = i + j;
                continue;
            }
            let one_longer = distance[i - 1][j].min(distance[i][j - 1]) + 1;
            let substituted = distance[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            distance[i][j] = one_longer.min(substituted);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                distance[i][j] = distance[i][j].min(distance[i - 2][j - 2] + 1);
            }
        }
    }
    distance[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits_and_a_swap_as_one() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(edit_distance(&chars("kitten"), &chars("sitting")), 3);
        assert_eq!(edit_distance(&chars(""), &chars("abc")), 3);
        assert_eq!(edit_distance(&chars("prot"), &chars("port")), 1);
    }

    #[test]
    fn suggests_the_nearest_and_nothing_far() {
        let known = ["packet-bytes-max", "push-qos", "ping-interval-ms"];
        assert_eq!(nearest("packetBytesMax", known), Some("packet-bytes-max"));
        assert_eq!(nearest("push_qso", known), Some("push-qos"));
        assert_eq!(nearest("frobnicate", known), None);
    }
}
