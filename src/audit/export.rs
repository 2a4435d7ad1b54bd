//! Records as lines of JSON, for other tools.
use std::{collections::HashSet, io::Write, path::Path};

use uuid::Uuid;

use super::{
    archive::Archive,
    chain::hex,
    frame::{Frame, UserRef, frames},
    journal::{self, Segment},
    walk::List,
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
    let folder = folder.filter(|folder| folder.exists());
    export_listed(archive, filter, out, &mut || folder.map_or(Ok(Vec::new()), journal::segments)).await
}

/// How far the records of a chain are written.
struct End {
    chain: Uuid,
    /// The first record of the database's block that was read last.
    block: u64,
    /// The last record.
    seq: Option<u64>,
}

impl End {
    fn of(ends: &mut Vec<Self>, chain: Uuid) -> &mut Self {
        let at = ends.iter().position(|end| end.chain == chain).unwrap_or_else(|| {
            ends.push(Self { chain, block: 0, seq: None });
            ends.len() - 1
        });
        &mut ends[at]
    }
}

pub(super) async fn export_listed(
    archive: &Archive,
    filter: &Filter,
    out: &mut dyn Write,
    list: &mut List<'_>,
) -> Result<u64, String> {
    let whose = filter.tenant.as_deref().zip(filter.user.as_deref());
    let user = whose.map(|(tenant, user)| archive.key().user(tenant, user));
    let mut count = 0;
    let mut write = |chain: Uuid, frame: &Frame<'_>| {
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
    let (mut ends, mut gone) = (Vec::new(), HashSet::new());
    'anew: loop {
        // Before the database, as in `walk.rs`: what is moved meanwhile is looked for anew.
        let mut segments = list().map_err(broken)?;
        segments.retain(|(number, _)| !gone.contains(number));
        for chain in archive.chains().await.map_err(failed)? {
            let end = End::of(&mut ends, chain.name);
            let seen = end.seq;
            while let Some((first, bytes)) = archive.next(chain.id, end.block).await.map_err(failed)? {
                end.block = first;
                let fresh = frames(&bytes).map(|(_, frame)| frame);
                for frame in fresh.filter(|frame| seen.is_none_or(|seen| frame.seq > seen)) {
                    write(chain.name, &frame)?;
                    end.seq = Some(frame.seq);
                }
            }
        }
        // What has not been moved yet.
        for (number, path) in segments {
            let segment = match Segment::read(&path) {
                Ok(Some(segment)) => segment,
                Ok(None) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    gone.insert(number);
                    continue 'anew;
                }
                Err(error) => return Err(broken(error)),
            };
            let end = End::of(&mut ends, segment.chain);
            for (frame, _) in segment.frames(0) {
                if end.seq.is_none_or(|seq| frame.seq > seq) {
                    write(segment.chain, &frame)?;
                    end.seq = Some(frame.seq);
                }
            }
        }
        return Ok(count);
    }
}
