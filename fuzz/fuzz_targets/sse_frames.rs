//! Any bytes, cut anywhere, give the same events as in one piece.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sluice::provider::frames::Frames;

type Seen = Option<Vec<(String, Vec<u8>)>>;

/// The events, or nothing where a limit was met.
fn read<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Seen {
    let mut frames = Frames::new(1 << 20);
    let mut seen = Vec::new();
    let mut each = |name: &str, data: &[u8]| Ok(seen.push((name.to_owned(), data.to_vec())));
    for chunk in chunks {
        frames.push(chunk, &mut each).ok()?;
    }
    frames.finish(&mut each).ok()?;
    Some(seen)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = (usize::from(input.0).max(1), input.1);
    assert_eq!(read(bytes.chunks(size)), read(std::iter::once(bytes)));
});
