//! Writing JSON straight into a buffer.
use bytes::{BufMut, BytesMut};
use serde::Serialize;

/// Writes a value as JSON.
pub(super) fn put(out: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    // A buffer takes all it is given, and every type written here has a JSON form.
    let _ = serde_json::to_writer(out.writer(), value);
}

/// A value as JSON.
pub(super) fn bytes(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    // Most answers fit: a buffer that need not grow is not copied.
    let mut out = Vec::with_capacity(1024);
    let _ = serde_json::to_writer(&mut out, value);
    out
}

/// Writes one server-sent event.
pub(super) fn event(out: &mut BytesMut, name: &str, data: &(impl Serialize + ?Sized)) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    put(out, data);
    out.put_slice(b"\n\n");
}
