//! Records as lines of JSON, for other tools.
use std::{io::Write, path::Path};

use super::{
    archive::Archive,
    chain::hex,
    frame::{Frame, UserRef, frames},
    journal::{self, Segment},
};

/// Which records.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those that ended at this moment or later, in microseconds since 1970.
    pub from: Option<i64>,
    /// Those that ended before this one.
    pub to: Option<i64>,
    /// Those of this tenant.
    pub tenant: Option<String>,
    /// Those of this user, of the tenant.
    pub user: Option<String>,
}

impl Filter {
    fn fits(&self, frame: &Frame<'_>, user: Option<UserRef>) -> bool {
        self.from.is_none_or(|from| frame.at >= from)
            && self.to.is_none_or(|to| frame.at < to)
            && self.tenant.as_ref().is_none_or(|tenant| tenant == frame.tenant)
            && user.is_none_or(|user| user == frame.user)
    }
}

/// Writes the records, each with its chain, number and link; tells how many.
///
/// # Errors
/// Something could not be read or written, in words.
pub async fn export(
    archive: &Archive,
    folder: Option<&Path>,
    filter: &Filter,
    out: &mut dyn Write,
) -> Result<u64, String> {
    let whose = filter.tenant.as_deref().zip(filter.user.as_deref());
    let user = whose.map(|(tenant, user)| archive.key().user(tenant, user));
    let mut count = 0;
    let mut write = |chain: &str, frame: &Frame<'_>| {
        if !filter.fits(frame, user) {
            return Ok(());
        }
        count += 1;
        let mut line = frame.json();
        // Into the object, whose end it is.
        line.pop();
        line.extend_from_slice(
            format!(",\"chain\":\"{chain}\",\"seq\":{},\"hash\":\"{}\"}}\n", frame.seq, hex(&frame.hash))
                .as_bytes(),
        );
        out.write_all(&line).map_err(|error| format!("it could not be written: {error}"))
    };
    let failed = |error: crate::store::sql::Failed| error.to_string();
    let broken = |error: std::io::Error| format!("the journal: {error}");
    let mut ends = Vec::new();
    for chain in archive.chains().await.map_err(failed)? {
        let (name, mut after, mut end) = (chain.name.to_string(), 0, 0);
        while let Some((first, bytes)) = archive.next(chain.id, after).await.map_err(failed)? {
            after = first;
            for (_, frame) in frames(&bytes) {
                write(&name, &frame)?;
                end = frame.seq;
            }
        }
        ends.push((chain.name, end));
    }
    // What has not been moved yet.
    let segments = match folder.filter(|folder| folder.exists()) {
        Some(folder) => journal::segments(folder).map_err(broken)?,
        None => Vec::new(),
    };
    for (_, path) in segments {
        let segment = match Segment::read(&path) {
            Ok(Some(segment)) => segment,
            Ok(None) => continue,
            // It has been moved since.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(broken(error)),
        };
        let name = segment.chain.to_string();
        if !ends.iter().any(|(chain, _)| *chain == segment.chain) {
            ends.push((segment.chain, 0));
        }
        for (chain, end) in ends.iter_mut().filter(|(chain, _)| *chain == segment.chain) {
            debug_assert_eq!(*chain, segment.chain);
            for (frame, _) in segment.frames(0).filter(|(frame, _)| frame.seq > *end).collect::<Vec<_>>() {
                write(&name, &frame)?;
                *end = frame.seq;
            }
        }
    }
    Ok(count)
}
