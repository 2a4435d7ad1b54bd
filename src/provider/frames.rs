//! Server-sent events, byte by byte, as they arrive from a provider.
//!
//! The bytes may be cut anywhere: within a character, between CR and LF, in
//! the byte order mark. An event whose one `data:` line lies whole in the
//! bytes given is passed on without a copy.
use memchr::memchr2;

use crate::error::{Error, Result};

/// Cuts a stream of bytes into server-sent events.
#[derive(Debug)]
pub struct Frames {
    /// A line whose end has not arrived.
    line: Vec<u8>,
    /// The data of an event whose end has not arrived, or that has several lines.
    data: Vec<u8>,
    name: String,
    has_data: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    /// Nothing has been read, so that a byte order mark may come.
    first: bool,
    most: usize,
}

/// Where the data of the current event is.
type Borrowed<'a> = Option<&'a [u8]>;

impl Frames {
    /// A reader that refuses events larger than `most` bytes.
    pub fn new(most: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            name: String::new(),
            has_data: false,
            after_cr: false,
            first: true,
            most,
        }
    }

    /// Reads `bytes` and gives every event that they complete to `each`: its
    /// name, empty where it has none, and its data.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
        let mut rest = bytes;
        // Data of the current event that still lies in `bytes`.
        let mut here: Borrowed<'_> = None;
        loop {
            if self.after_cr && !rest.is_empty() {
                self.after_cr = false;
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else { break };
            let line = &rest[..end];
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if self.line.is_empty() {
                self.read(line, &mut here, &mut each)?;
            } else {
                self.carry(line)?;
                // The line is ours, not the caller's: its data has to be copied.
                let whole = std::mem::take(&mut self.line);
                let mut copied = None;
                self.spill(&mut here)?;
                self.read(&whole, &mut copied, &mut each)?;
                self.spill(&mut copied)?;
                self.line = whole;
                self.line.clear();
            }
        }
        self.spill(&mut here)?;
        self.carry(rest)
    }

    /// The stream has ended. Gives the last event to `each` if only its blank
    /// line is missing, as with servers that stop right after the last data.
    pub fn finish(&mut self, mut each: impl FnMut(&str, &[u8]) -> Result<()>) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        let mut here = None;
        if !line.is_empty() {
            self.read(&line, &mut here, &mut each)?;
        }
        self.read(b"", &mut here, &mut each)
    }

    /// Reads one line without its end.
    fn read<'a>(
        &mut self,
        mut line: &'a [u8],
        here: &mut Borrowed<'a>,
        each: &mut impl FnMut(&str, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if std::mem::take(&mut self.first) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(here, each);
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &line[line.len()..]),
        };
        match field {
            b"data" if value.len() > self.most => Err(self.too_large()),
            b"data" if self.has_data => {
                self.spill(here)?;
                self.data.push(b'\n');
                self.append(value)
            }
            b"data" => {
                self.has_data = true;
                *here = Some(value);
                Ok(())
            }
            b"event" => {
                self.name.clear();
                self.name.push_str(std::str::from_utf8(value).unwrap_or_default());
                Ok(())
            }
            // Comments, ids and reconnection times say nothing to us.
            _ => Ok(()),
        }
    }

    fn dispatch(
        &mut self,
        here: &mut Borrowed<'_>,
        each: &mut impl FnMut(&str, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let done = match here.take() {
            Some(data) => each(&self.name, data),
            None if self.has_data => each(&self.name, &self.data),
            None => Ok(()),
        };
        self.has_data = false;
        self.data.clear();
        self.name.clear();
        done
    }

    /// Copies what would be lost with the bytes that it lies in.
    fn spill(&mut self, here: &mut Borrowed<'_>) -> Result<()> {
        match here.take() {
            Some(data) => self.append(data),
            None => Ok(()),
        }
    }

    fn append(&mut self, data: &[u8]) -> Result<()> {
        if self.data.len() + data.len() > self.most {
            return Err(self.too_large());
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn carry(&mut self, part: &[u8]) -> Result<()> {
        // The field's name and colon come on top of the data.
        if self.line.len() + part.len() > self.most.saturating_add(16) {
            return Err(self.too_large());
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn too_large(&self) -> Error {
        Error::broken(format!("an event of the stream is larger than {} bytes", self.most))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = Vec<(String, Vec<u8>)>;

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Seen {
        let mut frames = Frames::new(1 << 20);
        let mut seen = Seen::new();
        let mut each = |name: &str, data: &[u8]| {
            seen.push((name.to_owned(), data.to_vec()));
            Ok(())
        };
        for chunk in chunks {
            frames.push(chunk, &mut each).unwrap();
        }
        seen
    }

    fn event(name: &str, data: &str) -> (String, Vec<u8>) {
        (name.to_owned(), data.as_bytes().to_vec())
    }

    const MIXED: &[u8] = b"\xEF\xBB\xBFdata: one\n\n: comment\r\nevent: two\r\ndata:a\r\ndata: b\r\n\r\n\
        retry: 3\rid: 7\rdata: three\r\rdata\n\nevent: none\n\ndata:  \xE2\x82\xAC\n\n";

    #[test]
    fn all_line_ends_comments_and_lines_of_data_are_understood() {
        let expected =
            [event("", "one"), event("two", "a\nb"), event("", "three"), event("", ""), event("", " €")];
        assert_eq!(read([MIXED]), expected);
    }

    #[test]
    fn every_split_gives_the_same_events() {
        let whole = read([MIXED]);
        for at in 0..=MIXED.len() {
            let (left, right) = MIXED.split_at(at);
            assert_eq!(read([left, right]), whole, "split at {at}");
        }
        assert_eq!(read(MIXED.chunks(1)), whole);
    }

    #[test]
    fn an_event_beyond_the_limit_is_an_error_however_it_is_cut() {
        for chunk in [1, 3, 64] {
            for text in [
                "data: 0123456789\n\n",
                "data: 01234\ndata: 56789\n\n",
                "data: 012345678901234567890123456789",
            ] {
                let mut frames = Frames::new(8);
                let failed =
                    text.as_bytes().chunks(chunk).any(|part| frames.push(part, |_, _| Ok(())).is_err());
                assert!(failed, "{text:?} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn the_last_event_may_lack_its_blank_line() {
        for end in ["", "\n", "\r", "\r\n"] {
            let mut frames = Frames::new(64);
            let mut seen = Vec::new();
            frames.push(format!("data: x{end}").as_bytes(), |_, _| panic!("not complete")).unwrap();
            frames
                .finish(|_, data| {
                    seen.extend_from_slice(data);
                    Ok(())
                })
                .unwrap();
            assert_eq!(seen, b"x");
        }
    }

    #[test]
    fn a_whole_event_is_not_copied() {
        let bytes = b"data: hello\n\n";
        let mut frames = Frames::new(64);
        let mut inside = false;
        frames
            .push(bytes, |_, data| {
                inside = bytes.as_ptr_range().contains(&data.as_ptr());
                Ok(())
            })
            .unwrap();
        assert!(inside);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks_give_the_same_events(
            lines in prop::collection::vec("(data: ?|event: |: |id: )?[a-zé€:\u{1F600}]{0,6}(\n|\r|\r\n)(\n|\r\n)?", 0..20),
            sizes in prop::collection::vec(1usize..9, 1..40),
        ) {
            let text = lines.concat();
            let mut rest = text.as_bytes();
            let mut chunks = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break }
                let (chunk, next) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = next;
            }
            prop_assert_eq!(read(chunks), read([text.as_bytes()]));
        }
    }
}
