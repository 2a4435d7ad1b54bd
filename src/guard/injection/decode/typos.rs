//! Words that are misspelt: a letter missing, doubled, wrong, or two that changed places.

/// The words that are looked for, by what they begin and end with: those that hardly any attack is without.
const MEANT: &[&str] = &[
    "disregard",
    "everything",
    "forget",
    "guidelines",
    "ignore",
    "instruction",
    "instructions",
    "override",
    "previous",
    "prompt",
    "prompts",
    "restrictions",
    "reveal",
    "system",
];

/// The longest of them, and two letters more.
const LONGEST: usize = 14;

/// With which letters they end that begin with each: a bit for each.
const ENDS: [u32; 26] = {
    let (mut all, mut at) = ([0; 26], 0);
    while at < MEANT.len() {
        let word = MEANT[at].as_bytes();
        all[(word[0] - b'a') as usize] |= 1 << (word[word.len() - 1] - b'a');
        at += 1;
    }
    all
};

/// The word that another of small letters was meant to be.
pub(super) fn meant(word: &[u8]) -> Option<&'static str> {
    let [first @ b'a'..=b'z', .., last @ b'a'..=b'z'] = word else { return None };
    let likely = ENDS[usize::from(first - b'a')] >> (last - b'a') & 1 == 1;
    if likely && word.len() <= LONGEST { nearest(word, *first, *last) } else { None }
}

#[cold]
fn nearest(word: &[u8], first: u8, last: u8) -> Option<&'static str> {
    let same_ends = |one: &&&str| {
        let one = one.as_bytes();
        one[0] == first && one[one.len() - 1] == last && one.len().abs_diff(word.len()) <= 1
    };
    let near = |one: &&&str| (1..=if one.len() > 8 { 2 } else { 1 }).contains(&edits(one.as_bytes(), word));
    MEANT.iter().filter(same_ends).find(near).copied()
}

/// How many letters have to be put in, left out, changed, or change places with the next one.
fn edits(one: &[u8], other: &[u8]) -> usize {
    let mut rows = [[0; LONGEST + 1]; 3];
    for (at, cell) in rows[0].iter_mut().enumerate() {
        *cell = at;
    }
    for i in 1..=one.len() {
        let (now, before, long_before) = (i % 3, (i + 2) % 3, (i + 1) % 3);
        rows[now][0] = i;
        for j in 1..=other.len() {
            let differ = usize::from(one[i - 1] != other[j - 1]);
            let mut least = (rows[before][j] + 1).min(rows[now][j - 1] + 1).min(rows[before][j - 1] + differ);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[long_before][j - 2] + 1);
            }
            rows[now][j] = least;
        }
    }
    rows[one.len() % 3][other.len()]
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_misspelt_word_is_the_one_that_was_meant() {
        for (word, whole) in [
            ("ingore", "ignore"),
            ("ignor", ""),
            ("prevoius", "previous"),
            ("previuos", "previous"),
            ("intructions", "instructions"),
            ("iunstructions", "instructions"),
            ("insturctons", "instructions"),
            ("forgt", "forget"),
            ("dissregard", "disregard"),
            ("sytem", "system"),
            ("promt", "prompt"),
            ("promts", "prompts"),
            // Words of their own.
            ("ignite", ""),
            ("stem", ""),
            ("frost", ""),
            ("prevents", ""),
            ("i", ""),
            ("", ""),
            ("pppppppppppppppppppppppppps", ""),
        ] {
            assert_eq!(meant(word.as_bytes()).unwrap_or_default(), whole, "{word}");
        }
    }
}
