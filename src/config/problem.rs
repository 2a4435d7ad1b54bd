//! A mistake in the configuration, shown where it is.
use std::fmt;

/// A mistake, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or the variable.
    pub origin: String,
    /// Line and column, both from 1 on.
    pub place: Option<(usize, usize)>,
    /// The line's text, where it may be shown.
    pub line: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((line, column)) = self.place else {
            return write!(f, "error: {}: {}", self.origin, self.message);
        };
        write!(f, "error: {}:{line}:{column}: {}", self.origin, self.message)?;
        if let Some(text) = &self.line {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            // Tabs keep their width under the caret.
            let lead: String = text
                .chars()
                .take(column.saturating_sub(1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(f, "\n{margin} |\n{number} | {text}\n{margin} | {lead}^")?;
        }
        Ok(())
    }
}
