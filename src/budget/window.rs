//! Days and months, as they begin and end where somebody lives.
use jiff::{Timestamp, Zoned, tz::TimeZone};
use parking_lot::Mutex;

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
}

impl Period {
    /// As in `the daily budget`.
    pub fn adjective(self) -> &'static str {
        match self {
            Self::Day => "daily",
            Self::Month => "monthly",
        }
    }

    /// As in `day`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// One day or month: from `start` on, until before `end`, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Its first second.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
}

/// The day and the month that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The day.
    pub day: Window,
    /// The month.
    pub month: Window,
}

impl Windows {
    /// Those that `now` (seconds since 1970) lies in, in a time zone.
    pub fn at(now: i64, zone: &TimeZone) -> Self {
        let found = || -> Result<Self, jiff::Error> {
            let now = Timestamp::from_second(now)?.to_zoned(zone.clone());
            let today = now.start_of_day()?;
            let first = now.first_of_month()?.start_of_day()?;
            let window = |start: &Zoned, end: &Zoned| Window {
                start: start.timestamp().as_second(),
                end: end.timestamp().as_second(),
            };
            Ok(Self {
                day: window(&today, &now.tomorrow()?.start_of_day()?),
                month: window(&first, &first.last_of_month()?.tomorrow()?.start_of_day()?),
            })
        };
        // Only years far beyond what a clock shows have no tomorrow.
        let always = Window { start: i64::MIN, end: i64::MAX };
        found().unwrap_or(Self { day: always, month: always })
    }

    /// The window of a period.
    pub fn of(&self, period: Period) -> Window {
        match period {
            Period::Day => self.day,
            Period::Month => self.month,
        }
    }
}

/// Knows what day it is in each time zone that is asked for, and looks it up once a day.
#[derive(Debug, Default)]
pub struct Calendar(Mutex<Vec<(TimeZone, Windows)>>);

/// There are fewer time zones than this.
const MOST: usize = 1024;

impl Calendar {
    /// The day and the month that it is.
    pub fn windows(&self, now: i64, zone: &TimeZone) -> Windows {
        let mut known = self.0.lock();
        if let Some((_, windows)) = known.iter_mut().find(|(one, _)| one == zone) {
            if !(windows.day.start..windows.day.end).contains(&now) {
                *windows = Windows::at(now, zone);
            }
            return *windows;
        }
        let windows = Windows::at(now, zone);
        if known.len() < MOST {
            known.push((zone.clone(), windows));
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn shown(window: Window) -> [String; 2] {
        [window.start, window.end].map(|second| Timestamp::from_second(second).unwrap().to_string())
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let last = Windows::at(at("2026-12-31T23:59:59Z"), &TimeZone::UTC);
        assert_eq!(shown(last.day), ["2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"]);
        assert_eq!(shown(last.month), ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]);
        let first = Windows::at(at("2027-01-01T00:00:00Z"), &TimeZone::UTC);
        assert_eq!((first.day.start, first.month.start), (last.day.end, last.month.end));
        let leap = Windows::at(at("2028-02-29T12:00:00Z"), &TimeZone::UTC);
        assert_eq!(shown(leap.month), ["2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"]);
    }

    #[test]
    fn days_of_23_and_25_hours_are_whole() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let spring = Windows::at(at("2026-03-29T12:00:00Z"), &zone).day;
        assert_eq!(shown(spring), ["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"]);
        let autumn = Windows::at(at("2026-10-25T12:00:00Z"), &zone).day;
        assert_eq!(shown(autumn), ["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"]);
        // Midnight itself is skipped here: the day begins at one.
        let zone = TimeZone::posix("<-03>3<-02>,M3.5.0/0,M10.5.0/0").unwrap();
        let skipped = Windows::at(at("2026-03-29T12:00:00Z"), &zone).day;
        assert_eq!(skipped.end - skipped.start, 23 * 3600);
    }

    #[test]
    fn a_calendar_turns_its_page() {
        let calendar = Calendar::default();
        let before = calendar.windows(at("2026-01-31T23:59:59Z"), &TimeZone::UTC);
        let after = calendar.windows(at("2026-02-01T00:00:00Z"), &TimeZone::UTC);
        assert_eq!((before.day.end, before.month.end), (after.day.start, after.month.start));
    }
}
