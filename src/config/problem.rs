//! A mistake in the configuration, shown where it is, and never a secret with it.
use std::{borrow::Cow, fmt};

use super::tree::At;

/// A mistake, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, the variable or the flag.
    pub origin: String,
    /// Where in the file.
    pub place: Option<Place>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1 on.
    pub line: usize,
    /// The column, from 1 on.
    pub column: usize,
    /// How many characters are meant.
    pub width: usize,
    /// The line's text, without what may be secret.
    pub text: String,
}

impl Problem {
    /// A mistake of a whole file.
    pub fn of(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: origin.into(), place: None, message: message.into() }
    }

    /// A mistake at a place of `text`. Where it is a secret, its line ends before it.
    pub(super) fn at(file: &str, text: &str, at: &At, message: &str, secret: bool) -> Self {
        let message = without_keys(message);
        match at {
            At::Nowhere => Self::of(file, message),
            At::Outside(origin) => Self::of(&**origin, message),
            At::File { line, column, width, .. } => {
                let whole = text.lines().nth(line - 1).unwrap_or_default();
                let lead = |end: usize| whole.chars().take(end).collect::<String>();
                // Other values on the line may be secret as well as the one that is wrong.
                let shown =
                    if secret { without_values(&lead(column - 1)) + "…" } else { without_values(whole) };
                let message = without_words_of(whole.strip_prefix(shown.trim_end_matches('…')), &message);
                let left = shown.chars().count().saturating_sub(column - 1);
                let width = if secret { 1 } else { (*width).min(left).max(1) };
                Self {
                    place: Some(Place { line: *line, column: *column, width, text: shown }),
                    ..Self::of(file, message)
                }
            }
        }
    }

    /// File problems in the order of the file, then the others.
    pub(super) fn rank(&self) -> (bool, usize, usize) {
        self.place.as_ref().map_or((true, 0, 0), |place| (false, place.line, place.column))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Place { line, column, width, text }) = &self.place else {
            return write!(f, "error: {}: {}", self.origin, self.message);
        };
        writeln!(f, "error: {}:{line}:{column}: {}", self.origin, self.message)?;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs keep their width above the caret.
        let lead: String =
            text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "{margin} |\n{number} | {text}\n{margin} | {lead}{}", "^".repeat(*width))
    }
}

/// "did you mean …?" where a known word is close, else all of them.
pub(super) fn nearest<S: AsRef<str>>(found: &str, known: &[S]) -> String {
    let found = found.to_lowercase();
    let close = known.iter().map(|word| (distance(&found, word.as_ref()), word.as_ref()));
    // A third of the letters may differ: beyond that a guess misleads.
    let close = close.filter(|(far, word)| *far * 3 <= word.chars().count()).min();
    match close {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None if known.is_empty() => "there are none".into(),
        None => format!("there are `{}`", known.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("`, `")),
    }
}

/// What a validator says, as what would be right.
pub(super) fn as_wish(told: &str) -> String {
    let (what, told) = told.strip_prefix("length is ").map_or(("", told), |told| ("have a length of ", told));
    let limit = told.strip_prefix("lower than ").map(|least| ("at least", least));
    let limit = limit.or_else(|| told.strip_prefix("greater than ").map(|most| ("at most", most)));
    match limit {
        Some(("at least", "1")) if !what.is_empty() => "must not be empty".into(),
        Some((side, bound)) if what.is_empty() => format!("must be {side} {bound}"),
        Some((side, bound)) => format!("must {what}{side} {bound}"),
        None => told.to_owned(),
    }
}

/// The letters to add, drop, change or swap to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(64).collect(), to.chars().take(64).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

/// Keys whose values are not shown, whatever they are.
const PRIVATE: [&str; 10] = [
    "api_key",
    "api-key",
    "apikey",
    "authorization",
    "cookie",
    "headers",
    "password",
    "secret",
    "token",
    "hash",
];

/// A line of the file, short of what may be secret in it.
fn without_values(line: &str) -> String {
    // Positions in the lowered line are those of the line itself: only ASCII is lowered.
    let lowered = line.to_ascii_lowercase();
    let value_of = |key: &str| {
        let after = lowered.find(key)? + key.len();
        let colon = after + lowered[after..].find(|c: char| !matches!(c, '"' | '\'' | ' '))?;
        let value = lowered[colon..].strip_prefix(':')?.trim_start();
        let named = value.trim_start_matches(['{', ' ']);
        let elsewhere = value.starts_with('{') && (named.starts_with("env:") || named.starts_with("file:"));
        let harmless = value.is_empty() || elsewhere || value.starts_with('#') || value.starts_with("null");
        (!harmless).then_some(lowered.len() - value.len())
    };
    match PRIVATE.iter().filter_map(|key| value_of(key)).min() {
        Some(end) => without_keys(&line[..end]).into_owned() + "…",
        None => without_keys(line).into_owned(),
    }
}

/// A message that repeats nothing of what is hidden.
fn without_words_of(hidden: Option<&str>, message: &str) -> String {
    let words = hidden.unwrap_or_default().split([' ', ',', '{', '}', '"', '\'', '`']);
    // Names of fields are no secrets; shorter words are in every sentence.
    let words = words.filter(|word| word.len() >= 4 && !word.ends_with(':'));
    words.fold(message.to_owned(), |message, word| message.replace(word, "…"))
}

/// A text in which whatever looks like a key or a password is hidden.
fn without_keys(text: &str) -> Cow<'_, str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_key = |word: &str| {
        let begins = ["sk-", "sk_", "pk-", "gsk_", "xai-", "AIza", "hf_", "key-"]
            .iter()
            .any(|start| word.starts_with(start));
        let runs = word.split(['-', '_']).any(|run| {
            run.len() >= 20
                && run.contains(|c: char| c.is_ascii_digit())
                && run.contains(|c: char| c.is_ascii_alphabetic())
        });
        (begins && word.len() > 10) || runs
    };
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c| !is_part(c)) {
        let bare = word.trim_end_matches(|c| !is_part(c));
        out.push_str(if is_key(bare) { "…" } else { bare });
        out.push_str(&word[bare.len()..]);
    }
    // What stands before the `@` of an address.
    if let Some((start, rest)) = out.split_once("://")
        && let Some((who, host)) = rest.split_once('@')
        && !who.contains(['/', ' '])
    {
        out = format!("{start}://…@{host}");
    }
    // What an address is asked with.
    if let Some((start, rest)) = out.split_once("://")
        && let Some((host, query)) = rest.split_once('?')
        && !host.contains([' ', '"', '\''])
    {
        let end = query.find([' ', '"', '\'', ',', '}']).unwrap_or(query.len());
        out = format!("{start}://{host}?…{}", &query[end..]);
    }
    if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_guessed_and_more_is_not() {
        assert_eq!(nearest("lisen", &["listen", "workers"]), "did you mean `listen`?");
        assert_eq!(nearest("lsiten", &["listen", "workers"]), "did you mean `listen`?");
        assert_eq!(nearest("Listen", &["listen"]), "did you mean `listen`?");
        assert_eq!(nearest("port", &["listen", "workers"]), "there are `listen`, `workers`");
    }

    #[test]
    fn no_line_shows_a_secret() {
        for (line, shown) in [
            ("  api_key: hunter2", "  api_key: …"),
            ("  p: {kind: openai, \"api_key\": hunter2}", "  p: {kind: openai, \"api_key\": …"),
            ("  Authorization: Bearer hunter2", "  Authorization: …"),
            ("  api_key: {env: OPENAI_API_KEY}", "  api_key: {env: OPENAI_API_KEY}"),
            ("- sk-abcdefghijklmno # mine", "- … # mine"),
            ("x: https://me:hunter2@host/v1", "x: https://…@host/v1"),
            ("x: 8f14e45fceea167a5a36dedd4bea2543", "x: …"),
            ("model: claude-haiku-4-5-20251001", "model: claude-haiku-4-5-20251001"),
            ("max_tokens: 5", "max_tokens: 5"),
            ("x: {api_key: {value: hunter2}}", "x: {api_key: …"),
            ("x: {headers: {X-Mine: hunter2}}", "x: {headers: …"),
            (
                "x: {base_url: \"http://h/v1?key=hunter2\", kind: openai}",
                "x: {base_url: \"http://h/v1?…\", kind: openai}",
            ),
        ] {
            assert_eq!(without_values(line), shown);
        }
    }

    #[test]
    fn no_mistake_shows_another_secret_of_its_line() {
        let line = "x: {headers: {Authorization: hunter2, Cookie: hunter3}}";
        let at = At::File { line: 1, column: 47, width: 7, bytes: None };
        let told = Problem::at("f", line, &at, "`hunter3` is wrong", true).to_string();
        assert!(!told.contains("hunter"), "{told}");
    }
}
