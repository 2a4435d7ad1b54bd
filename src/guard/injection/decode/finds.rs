//! What decoders have found and nobody has read yet, and how much more of it may be looked for.
use std::collections::VecDeque;

use super::{DEEPEST, JUDGING, MOST};

/// A queue of readings: those of the text itself come first, then what was found in them.
pub(super) struct Finds {
    queue: VecDeque<(String, Vec<&'static str>)>,
    /// How the text was found that is looked at now.
    layers: Vec<&'static str>,
    /// The work that is left (see [`super::work`]).
    left: usize,
}

impl Finds {
    pub(super) fn new(left: usize) -> Self {
        Self { queue: VecDeque::new(), layers: Vec::new(), left }
    }

    /// What follows is found in a text that was found so.
    pub(super) fn within(&mut self, layers: &[&'static str]) {
        self.layers.clear();
        self.layers.extend_from_slice(layers);
    }

    /// Whether another reading is wanted, and so much work may be done for it; then it counts as done.
    pub(super) fn wants(&mut self, work: usize) -> bool {
        let wanted = self.layers.len() < DEEPEST && self.queue.len() < MOST && work <= self.left;
        if wanted {
            self.left -= work;
        }
        wanted
    }

    /// Takes in a text that was found, if it may still be judged. That is paid at once, so that nothing deeper is
    /// looked for at the cost of what lies above it.
    pub(super) fn tell(&mut self, found: String, layer: &'static str) {
        if self.wants(found.len() * JUDGING) {
            let layers = self.layers.iter().copied().chain([layer]).collect();
            self.queue.push_back((found, layers));
        }
    }

    /// The next text to read.
    pub(super) fn next(&mut self) -> Option<(String, Vec<&'static str>)> {
        self.queue.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }
}
