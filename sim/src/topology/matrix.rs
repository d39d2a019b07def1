//! Round trips of all pairs, in milliseconds.
//!
//! With names: comma-separated, the first line `node,NAME,...`, each other line a name and its row. Without: numbers alone,
//! separated by blanks, whose relays are called `n1` and so on. An empty cell, `nan` and the diagonal say nothing.

use super::{Problem, RELAYS_MAX, RoundTrips, TopologyPlace};
use std::collections::BTreeMap;
use wire_format::control::Position;

/// Longest round trip that a file may tell, ms.
const RTT_MAX_MS: f64 = 60_000.0;

pub(super) fn parse(text: &str) -> Result<(Vec<String>, RoundTrips), Problem> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.first().ok_or("the file is empty")?;
    let named = first.contains(',');
    let (names, rows): (Vec<String>, &[&str]) = if named {
        let mut names: Vec<String> = first.split(',').skip(1).map(|name| name.trim().to_owned()).collect();
        // Some files end their lines with a comma.
        if names.last().is_some_and(String::is_empty) {
            names.pop();
        }
        (names, &lines[1..])
    } else {
        ((1..=lines.len()).map(|at| format!("n{at}")).collect(), &lines[..])
    };
    let count = names.len();
    if count == 0 || count > RELAYS_MAX {
        return Err(format!("{count} relays; 1 to {RELAYS_MAX} are possible"));
    }
    if rows.len() != count {
        return Err(format!("{} rows for {count} relays", rows.len()));
    }
    let mut trips = RoundTrips::none(count);
    for (from, row) in rows.iter().enumerate() {
        let cells: Vec<&str> =
            if named { row.split(',').collect() } else { row.split_whitespace().collect() };
        let line = from + 1 + usize::from(named);
        let cells = if named {
            let (name, cells) = cells.split_first().expect("split gives one at least");
            if name.trim() != names[from] {
                return Err(format!(
                    "line {line} is about {name:?}, where the first line has {:?}",
                    names[from]
                ));
            }
            match cells {
                [cells @ .., last] if cells.len() == count && last.trim().is_empty() => cells,
                cells => cells,
            }
        } else {
            &cells[..]
        };
        if cells.len() != count {
            return Err(format!("line {line} has {} round trips for {count} relays", cells.len()));
        }
        for (to, cell) in cells.iter().map(|cell| cell.trim()).enumerate().filter(|(to, _)| *to != from) {
            if cell.is_empty() || cell.eq_ignore_ascii_case("nan") {
                continue;
            }
            let ms: f64 =
                cell.parse().map_err(|_| format!("line {line}: {cell:?} is no number of milliseconds"))?;
            if !(0.0..=RTT_MAX_MS).contains(&ms) {
                return Err(format!("line {line}: {cell} ms; 0 to {RTT_MAX_MS} are possible"));
            }
            trips.set(from, to, (ms * 1e3).round() as u32);
        }
    }
    Ok((names, trips))
}

/// Where relays stand: comma-separated, `NAME,LATITUDE,LONGITUDE` and perhaps a region, with a line of titles.
pub(super) fn locate(text: &str, places: &mut [TopologyPlace]) -> Result<(), Problem> {
    let mut known = BTreeMap::new();
    for (at, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let wrong = || format!("line {}: NAME,LATITUDE,LONGITUDE[,REGION] is expected", at + 1);
        let [name, lat, lon, rest @ ..] = &cells[..] else { return Err(wrong()) };
        let degrees = |text: &str| text.parse::<f64>().map_err(|_| wrong());
        let position = Position::from_degrees(degrees(lat)?, degrees(lon)?).ok_or_else(wrong)?;
        known.insert(*name, (position, rest.first().copied()));
    }
    for place in places {
        if let Some((position, region)) = known.get(place.name.as_str()) {
            place.position = Some(*position);
            place.region = region.map(str::to_owned);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_read_with_names_and_without() {
        let (names, trips) = parse("node,a,b\na,,1.5\nb,2,0\n").expect("legal");
        assert_eq!(names, ["a", "b"]);
        assert_eq!((trips.us(0, 1), trips.us(1, 0)), (Some(1_500), Some(2_000)));
        assert_eq!(trips.pairs().count(), 2, "the diagonal is no link");
        let (ended, same) = parse("node,a,b,\na,,1.5,\nb,2,0,\n").expect("legal");
        assert_eq!((&names, &trips), (&ended, &same));
        let (names, trips) = parse("0 10 nan\n11 0 12\n13\t14 0\n").expect("legal");
        assert_eq!(names, ["n1", "n2", "n3"]);
        assert_eq!((trips.us(0, 2), trips.us(2, 0)), (None, Some(13_000)));
    }

    #[test]
    fn what_is_no_matrix_is_refused_with_its_line() {
        for (text, what) in [
            ("", "empty"),
            ("node,a,b\na,,1\n", "1 rows for 2 relays"),
            ("node,a,b\na,,1\nc,1,\n", "line 3 is about \"c\""),
            ("node,a,b\na,,1,2\nb,1,\n", "line 2 has 3 round trips"),
            ("node,a,b\na,,x\nb,1,\n", "line 2: \"x\""),
            ("node,a,b\na,,-1\nb,1,\n", "line 2: -1 ms"),
            ("0 1\n1 inf\n0 1", "line 1 has 2 round trips for 3"),
        ] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(what), "{text:?}: {problem}");
        }
    }

    #[test]
    fn places_are_found_by_name() {
        let place = |name: &str| TopologyPlace { name: name.to_owned(), region: None, position: None };
        let mut places = [place("a"), place("b")];
        locate("node,lat,lon,country\nb,48.5,-3.25,FR\nc,1,2,XX\n", &mut places).expect("legal");
        assert_eq!(places[0].position, None);
        assert_eq!(places[1].position, Position::from_degrees(48.5, -3.25));
        assert_eq!(places[1].region.as_deref(), Some("FR"));
        assert!(locate("t\na,91,0\n", &mut places).expect_err("no such place").contains("line 2"));
    }
}
