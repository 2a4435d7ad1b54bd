//! What a stream's pieces become: what the fuzz targets of the guards share.
use std::{collections::VecDeque, sync::Arc};

use sluice::{
    chat::{Event, Finish},
    guard::hold::{Guard, Judging},
    reply::Rewrite,
};

/// The text that comes out when `pieces` go in, one after the other.
pub fn judged<'a>(rules: Arc<[Arc<dyn Guard>]>, pieces: impl Iterator<Item = &'a [char]>) -> String {
    let mut judging = Judging::new(rules, false, false, Box::new(|_, _| {}));
    let mut out = VecDeque::new();
    for piece in pieces {
        judging.event(Event::text(piece.iter().collect::<String>()), &mut out);
    }
    judging.event(Event::finish(Finish::Stop), &mut out);
    judging.end(&mut out);
    let text =
        |event: &Event| if let Event::Text { text, .. } = event { text.clone() } else { String::new() };
    out.iter().map(text).collect()
}
