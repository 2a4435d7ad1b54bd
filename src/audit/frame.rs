//! One record as bytes: in the journal and in the database alike.
//!
//! A record has two parts. What is said of the call stays for as long as
//! records are kept. What the caller said (who they are in the application's
//! words, question, answer) can be erased. The chain goes over the first part
//! and a salted hash of the second: without salt and text nobody can tell
//! what the hash was made of, and it still proves that nobody put another
//! text there.
use std::fmt;

use super::chain::{Hash, Key};

/// What kind of record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// What became of a call.
    Call = 1,
    /// A user's content was erased, here and everywhere up to a moment.
    Erasure = 2,
    /// The oldest records were removed, up to a number.
    Cut = 3,
    /// Somebody did something that is to be seen later, such as a decision about an answer.
    Act = 4,
    /// An earlier reply was given once more.
    Replay = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Call, Self::Erasure, Self::Cut, Self::Act, Self::Replay]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// By what a user's records are found once the name is gone: a keyed hash of tenant and user.
pub type UserRef = [u8; 16];

/// A record, where it stands in somebody's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What kind of record it is.
    pub kind: Kind,
    /// Its number in the chain, from 1 on.
    pub seq: u64,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// Whose it is; zeros where nobody was named.
    pub user: UserRef,
    /// The tenant.
    pub tenant: &'a str,
    /// The request's id.
    pub request: &'a str,
    /// What stays: a JSON object without its end.
    pub meta: &'a [u8],
    /// What can be erased: the object's further fields, each after a comma. Absent once it is erased.
    pub content: Option<Content<'a>>,
    /// The salted hash of the content.
    pub content_hash: Hash,
    /// The link: over the link before, and all of this but the content.
    pub hash: Hash,
}

/// What can be erased.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Content<'a> {
    /// Random bytes, so that a short text cannot be guessed from its hash.
    pub salt: [u8; 16],
    /// The text.
    pub text: &'a [u8],
}

impl Content<'_> {
    /// The salted hash.
    pub fn hash(&self) -> Hash {
        super::chain::digest(&[&self.salt, self.text])
    }
}

// A record's words do not belong into a log.
impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("seq", &self.seq).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What stands before the part that the chain goes over: length and checksum.
const HEAD: usize = 8;
/// The hashes at the end of that part's fixed fields.
const FIXED: usize = 1 + 8 + 8 + 16 + 2 + 2 + 4;
/// No record is longer, in bytes.
pub const LONGEST: usize = 3 << 20;

impl<'a> Frame<'a> {
    /// What the link goes over besides the link before.
    fn linked(&self, fixed: &mut [u8; FIXED]) {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            fixed[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&[self.kind as u8]);
        put(&self.seq.to_le_bytes());
        put(&self.at.to_le_bytes());
        put(&self.user);
        put(&(self.tenant.len() as u16).to_le_bytes());
        put(&(self.request.len() as u16).to_le_bytes());
        put(&(self.meta.len() as u32).to_le_bytes());
    }

    /// The link that this record has to have after the one before.
    pub fn link(&self, key: &Key, before: &Hash) -> Hash {
        let mut fixed = [0; FIXED];
        self.linked(&mut fixed);
        key.mac(&[
            b"record",
            before,
            &fixed,
            self.tenant.as_bytes(),
            self.request.as_bytes(),
            self.meta,
            &self.content_hash,
        ])
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        let mut fixed = [0; FIXED];
        self.linked(&mut fixed);
        out.extend_from_slice(&[0; HEAD]);
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.tenant.as_bytes());
        out.extend_from_slice(self.request.as_bytes());
        out.extend_from_slice(self.meta);
        out.extend_from_slice(&self.content_hash);
        out.extend_from_slice(&self.hash);
        if let Some(content) = &self.content {
            out.extend_from_slice(&content.salt);
            out.extend_from_slice(content.text);
        }
        let length = (out.len() - begin - HEAD) as u32;
        let sum = crc32fast::hash(&out[begin + HEAD..]);
        out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        out[begin + 4..begin + HEAD].copy_from_slice(&sum.to_le_bytes());
    }

    /// How long the record at the beginning of `bytes` says that it is, in bytes; `None` for no record.
    pub fn length(bytes: &[u8]) -> Option<usize> {
        let said = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        (FIXED + 64..=LONGEST).contains(&said).then_some(HEAD + said)
    }

    /// The record at the beginning of `bytes`, if it is whole, and its length.
    pub fn read(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let length = u32::from_le_bytes(array(&mut rest)?) as usize;
        let sum = u32::from_le_bytes(array(&mut rest)?);
        let body = rest.get(..length).filter(|_| (FIXED + 64..=LONGEST).contains(&length))?;
        if crc32fast::hash(body) != sum {
            return None;
        }
        Some((Self::parse(body)?, HEAD + length))
    }

    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        let kind = Kind::of(array::<1>(&mut rest)?[0])?;
        let seq = u64::from_le_bytes(array(&mut rest)?);
        let at = i64::from_le_bytes(array(&mut rest)?);
        let user = array(&mut rest)?;
        let tenant = usize::from(u16::from_le_bytes(array(&mut rest)?));
        let request = usize::from(u16::from_le_bytes(array(&mut rest)?));
        let meta = u32::from_le_bytes(array(&mut rest)?) as usize;
        let tenant = std::str::from_utf8(slice(&mut rest, tenant)?).ok()?;
        let request = std::str::from_utf8(slice(&mut rest, request)?).ok()?;
        let meta = slice(&mut rest, meta)?;
        let (content_hash, hash) = (array(&mut rest)?, array(&mut rest)?);
        let content = match rest.is_empty() {
            true => None,
            false => Some(Content { salt: array(&mut rest)?, text: rest }),
        };
        Some(Self { kind, seq, at, user, tenant, request, meta, content, content_hash, hash })
    }

    /// The record as JSON, with what is left of it.
    pub fn json(&self) -> Vec<u8> {
        let text = self.content.map_or(&b",\"erased\":true"[..], |content| content.text);
        [self.meta, text, b"}"].concat()
    }
}

/// The records that `bytes` begin with, up to the first that is not whole. The
/// number is where each begins.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = (usize, Frame<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (frame, length) = Frame::read(bytes.get(at..)?)?;
        let begin = at;
        at += length;
        Some((begin, frame))
    })
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn slice<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(seq: u64, meta: &[u8], text: Option<&[u8]>) -> Vec<u8> {
        let content = text.map(|text| Content { salt: [7; 16], text });
        let mut frame = Frame {
            kind: Kind::Call,
            seq,
            at: -5,
            user: [3; 16],
            tenant: "t",
            request: "r-1",
            meta,
            content,
            content_hash: content.map(|content| content.hash()).unwrap_or_default(),
            hash: Hash::default(),
        };
        frame.hash = frame.link(&Key::new(b"key"), &Hash::default());
        let mut out = Vec::new();
        frame.write(&mut out);
        out
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            seq in any::<u64>(),
            meta in prop::collection::vec(any::<u8>(), 0..200),
            text in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        ) {
            let bytes = written(seq, &meta, text.as_deref());
            let (frame, length) = Frame::read(&bytes).unwrap();
            prop_assert_eq!(length, bytes.len());
            prop_assert_eq!((frame.seq, frame.at, frame.tenant, frame.request), (seq, -5, "t", "r-1"));
            prop_assert_eq!(frame.meta, &meta[..]);
            prop_assert_eq!(frame.content.map(|content| content.text.to_vec()), text);
            prop_assert_eq!(frame.hash, frame.link(&Key::new(b"key"), &Hash::default()));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Frame::read(&bytes);
            let _ = Frame::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_is_no_record(at in 0_usize..400, bit in 0_u8..8) {
            let mut bytes = written(9, b"{\"a\":1", Some(b",\"b\":2"));
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(Frame::read(&bytes).is_none());
        }
    }

    #[test]
    fn cut_at_any_byte_it_is_no_record_and_those_before_it_are() {
        let (one, two) = (written(1, b"{", Some(b"x")), written(2, b"{", None));
        for cut in 0..two.len() {
            let bytes = [&one[..], &two[..cut]].concat();
            assert_eq!(frames(&bytes).map(|(_, frame)| frame.seq).collect::<Vec<_>>(), [1], "cut at {cut}");
        }
        let both = [one, two].concat();
        assert_eq!(frames(&both).count(), 2);
    }

    #[test]
    fn what_is_erased_says_so() {
        let bytes = written(1, b"{\"a\":1", None);
        assert_eq!(Frame::read(&bytes).unwrap().0.json(), b"{\"a\":1,\"erased\":true}");
    }
}
