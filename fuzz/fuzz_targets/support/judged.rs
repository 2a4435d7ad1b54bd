//! What a stream's pieces become: what the fuzz targets of the guards share.
use std::{collections::VecDeque, sync::Arc};

use sluice::{
    chat::{Event, Finish},
    guard::hold::{Guard, Judging},
    reply::{Flow, Rewrite},
};

/// The text that comes out when `pieces` go in, one after the other.
pub fn judged<'a>(rules: Arc<[Arc<dyn Guard>]>, pieces: impl Iterator<Item = &'a [char]>) -> String {
    let mut judging = Judging::new(rules, false, false, Box::new(|_, _| {}));
    let mut out = VecDeque::new();
    let events = pieces.map(|piece| Event::text(piece.iter().collect::<String>()));
    let mut events = events.chain([Event::finish(Finish::Stop)]);
    // As a reply does: what a guard has ended gets no more.
    if events.all(|event| judging.event(event, &mut out) == Flow::Continue) {
        judging.end(&mut out);
    }
    let text =
        |event: &Event| if let Event::Text { text, .. } = event { text.clone() } else { String::new() };
    out.iter().map(text).collect()
}
