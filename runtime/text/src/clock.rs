//! Dates for chat templates: `strftime` in UTC.

use std::time::{Duration, SystemTime};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Formats a time in UTC by C's `strftime` conversions; ones that are not known stay as they are.
pub(crate) fn strftime(format: &str, time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, eras have 400 of them.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    let before: u64 = (0..month)
        .map(|m| match m {
            1 => 28 + u64::from(leap),
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        })
        .sum();
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (month_name, day_name) = (MONTHS[month as usize], DAYS[(days as usize + 4) % 7]);
    let half = |h: u64| if h.is_multiple_of(12) { 12 } else { h % 12 };
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut conversion = rest.next();
        let plain = conversion == Some('-');
        if plain {
            conversion = rest.next(); // glibc: without leading zeros
        }
        let number = |n: u64| if plain { n.to_string() } else { format!("{n:02}") };
        match conversion {
            Some('Y') => out += &year.to_string(),
            Some('y') => out += &number(year % 100),
            Some('m') => out += &number(month + 1),
            Some('d') => out += &number(day),
            Some('e') => out += &format!("{day:2}"),
            Some('j') => out += &format!("{:03}", before + day),
            Some('H') => out += &number(hour),
            Some('I') => out += &number(half(hour)),
            Some('M') => out += &number(minute),
            Some('S') => out += &number(second),
            Some('p') => out += if hour < 12 { "AM" } else { "PM" },
            Some('B') => out += month_name,
            Some('b' | 'h') => out += &month_name[..3],
            Some('A') => out += day_name,
            Some('a') => out += &day_name[..3],
            Some('F') => out += &format!("{year}-{:02}-{day:02}", month + 1),
            Some('T') => out += &format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => out += "UTC",
            Some('z') => out += "+0000",
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        assert_eq!(strftime("%A %d %B %Y %H:%M:%S", at(0)), "Thursday 01 January 1970 00:00:00");
        assert_eq!(strftime("%d %b %Y, day %j", at(951_782_400)), "29 Feb 2000, day 060");
        assert_eq!(strftime("%F %T %a %I %p", at(1_735_689_599)), "2024-12-31 23:59:59 Tue 11 PM");
        assert_eq!(strftime("%-d.%-m.%y %q%%%", at(1_709_251_200)), "1.3.24 %q%%");
    }
}
