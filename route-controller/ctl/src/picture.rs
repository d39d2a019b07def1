//! Pictures of the overlay, written as SVG by hand: names in boxes, and lines between them.
//!
//! Where all that is drawn stands somewhere on earth it is laid out like a map, with places that are too close pushed
//! apart; otherwise in a circle, or, where something flows, from left to right. The same input gives the same picture.

mod layout;

use crate::output::printable;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Above everything: the title and what stands below it.
const HEAD: f64 = 64.0;
const FOOT: f64 = 30.0;
const NAME_SIZE: f64 = 12.5;
const SMALL_SIZE: f64 = 10.5;
/// Of a letter, by the size of its type: names are drawn in a wide face at worst.
const LETTER: f64 = 0.6;
const BOX_HEIGHT: f64 = 24.0;
/// Of a line of a label.
const LABEL_HEIGHT: f64 = 13.0;
/// Longest name that is drawn whole.
const NAME_LETTERS: usize = 28;

/// What something is drawn like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Tone {
    /// As it should be.
    Plain,
    /// What is looked at.
    Strong,
    /// Something is the matter.
    Warn,
    /// Not in use.
    Faint,
    /// The redundant planes.
    Red,
    Blue,
}

impl Tone {
    /// Told apart by people who see few colours.
    fn line(self) -> &'static str {
        match self {
            Tone::Plain => "#5b6770",
            Tone::Strong => "#111111",
            Tone::Warn => "#b35900",
            Tone::Faint => "#b8c0c6",
            Tone::Red => "#c0392b",
            Tone::Blue => "#0072b2",
        }
    }

    fn fill(self) -> &'static str {
        match self {
            Tone::Plain | Tone::Red | Tone::Blue => "#ffffff",
            Tone::Strong => "#e8f1f8",
            Tone::Warn => "#fff1df",
            Tone::Faint => "#f1f3f4",
        }
    }
}

/// Something that has a name.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Spot {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Below the name, small.
    pub(crate) note: String,
    pub(crate) tone: Tone,
    /// No relay.
    pub(crate) round: bool,
    /// North and east, degrees.
    pub(crate) place: Option<(f64, f64)>,
}

/// A line from spot to spot.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Line {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Beside it, small; none, or one or two lines.
    pub(crate) label: Vec<String>,
    pub(crate) tone: Tone,
    pub(crate) width: f64,
    pub(crate) dashed: bool,
    /// It has a direction.
    pub(crate) arrow: bool,
}

/// How spots are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// By where they stand, in a circle where that is not known.
    Map,
    /// From left to right along the lines.
    Flow,
}

/// A picture to be drawn.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) layout: Layout,
    pub(crate) spots: Vec<Spot>,
    pub(crate) lines: Vec<Line>,
    pub(crate) legend: Vec<(Tone, bool, &'static str)>,
}

impl Spot {
    fn width(&self) -> f64 {
        let name = shown(&self.name).chars().count() as f64 * NAME_SIZE * LETTER;
        let note = shown(&self.note).chars().count() as f64 * SMALL_SIZE * LETTER;
        name.max(note) + 18.0
    }

    fn height(&self) -> f64 {
        if self.note.is_empty() { BOX_HEIGHT } else { BOX_HEIGHT + 13.0 }
    }
}

impl Picture {
    pub(crate) fn svg(&self) -> String {
        let placed = layout::place(self);
        let (width, height) = (placed.width, placed.height + HEAD + FOOT);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"Helvetica, Arial, sans-serif\" fill=\"#222222\">\n\
             <rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n\
             <text x=\"20\" y=\"28\" font-size=\"17\" font-weight=\"bold\">{}</text>\n\
             <text x=\"20\" y=\"48\" font-size=\"12\" fill=\"#5b6770\">{}</text>\n",
            escaped(&self.title),
            escaped(&self.subtitle),
        );
        text.push_str(&arrow_heads());
        let spots: BTreeMap<&str, (&Spot, (f64, f64))> = self
            .spots
            .iter()
            .zip(&placed.spots)
            .map(|(spot, (x, y))| (spot.id.as_str(), (spot, (*x, y + HEAD))))
            .collect();
        let mut labels = String::new();
        // Where no label may be: on boxes, and on other labels.
        let mut taken: Vec<_> =
            spots.values().map(|(spot, (x, y))| (*x, *y, spot.width(), spot.height())).collect();
        for (line, bend) in self.lines.iter().zip(&placed.bends) {
            let (Some(from), Some(to)) = (spots.get(line.from.as_str()), spots.get(line.to.as_str())) else {
                continue;
            };
            draw_line(&mut text, &mut labels, &mut taken, line, *from, *to, *bend);
        }
        for (spot, (x, y)) in spots.values() {
            draw_spot(&mut text, spot, *x, *y);
        }
        text.push_str(&labels);
        self.draw_legend(&mut text, height - 12.0);
        text + "</svg>\n"
    }

    /// How far each line bends aside: lines between the same two spots must not cover each other.
    fn bends(&self) -> Vec<f64> {
        let pair = |line: &Line| {
            let (a, b) = (line.from.clone(), line.to.clone());
            if a < b { (a, b) } else { (b, a) }
        };
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in &self.lines {
            *counts.entry(pair(line)).or_default() += 1;
        }
        let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
        let bend = |line: &Line| {
            let key = pair(line);
            let count = counts.get(&key).copied().unwrap_or(1);
            let rank = seen.entry(key).or_default();
            *rank += 1;
            let aside = (*rank - 1) as f64 - (count - 1) as f64 / 2.0;
            // Seen from the one that comes first, whichever way the line leads.
            let turned = if line.from < line.to { 1.0 } else { -1.0 };
            aside * 22.0 * turned
        };
        self.lines.iter().map(bend).collect()
    }

    fn draw_legend(&self, text: &mut String, y: f64) {
        let mut x = 20.0;
        for (tone, dashed, word) in &self.legend {
            let dash = if *dashed { " stroke-dasharray=\"6 4\"" } else { "" };
            let _ = writeln!(
                text,
                "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{}\" stroke-width=\"2.5\"{dash}/>\n\
                 <text x=\"{:.1}\" y=\"{y:.1}\" font-size=\"11\">{}</text>",
                y - 4.0,
                x + 26.0,
                y - 4.0,
                tone.line(),
                x + 32.0,
                escaped(word),
            );
            x += 54.0 + word.chars().count() as f64 * 11.0 * 0.55;
        }
    }
}

/// One for each tone: SVG's arrow heads do not take the colour of their line.
fn arrow_heads() -> String {
    let head = |tone: Tone| {
        format!(
            "<marker id=\"to-{tone:?}\" viewBox=\"0 0 8 8\" refX=\"7.4\" refY=\"4\" markerWidth=\"9\" markerHeight=\"9\" \
             markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0,0.6 L8,4 L0,7.4 Z\" fill=\"{}\"/></marker>\n",
            tone.line()
        )
    };
    let all = [Tone::Plain, Tone::Strong, Tone::Warn, Tone::Faint, Tone::Red, Tone::Blue];
    format!("<defs>\n{}</defs>\n", all.map(head).concat())
}

fn draw_spot(text: &mut String, spot: &Spot, x: f64, y: f64) {
    let (width, height) = (spot.width(), spot.height());
    let radius = if spot.round { height / 2.0 } else { 5.0 };
    let stroke = if spot.tone == Tone::Strong { 2.0 } else { 1.2 };
    let _ = writeln!(
        text,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius:.1}\" fill=\"{}\" \
         stroke=\"{}\" stroke-width=\"{stroke}\"/>",
        x - width / 2.0,
        y - height / 2.0,
        spot.tone.fill(),
        spot.tone.line(),
    );
    let name_y = if spot.note.is_empty() { y + 4.5 } else { y - 2.0 };
    let _ = writeln!(
        text,
        "<text x=\"{x:.1}\" y=\"{name_y:.1}\" font-size=\"{NAME_SIZE}\" text-anchor=\"middle\">{}</text>",
        escaped(&shown(&spot.name)),
    );
    if !spot.note.is_empty() {
        let _ = writeln!(
            text,
            "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"{SMALL_SIZE}\" fill=\"#5b6770\" text-anchor=\"middle\">{}</text>",
            y + 12.0,
            escaped(&shown(&spot.note)),
        );
    }
}

fn draw_line(
    text: &mut String,
    labels: &mut String,
    taken: &mut Vec<(f64, f64, f64, f64)>,
    line: &Line,
    (from, start): (&Spot, (f64, f64)),
    (to, end): (&Spot, (f64, f64)),
    bend: f64,
) {
    let (dx, dy) = (end.0 - start.0, end.1 - start.1);
    let length = dx.hypot(dy).max(1.0);
    // The curve's control point; its middle lies half as far aside.
    let control = (
        (start.0 + end.0) / 2.0 - dy / length * bend * 2.0,
        (start.1 + end.1) / 2.0 + dx / length * bend * 2.0,
    );
    let begin = edge(from, start, control, 1.0);
    let finish = edge(to, end, control, if line.arrow { 3.0 } else { 1.0 });
    let dash = if line.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let head = if line.arrow { format!(" marker-end=\"url(#to-{:?})\"", line.tone) } else { String::new() };
    let _ = writeln!(
        text,
        "<path d=\"M{:.1},{:.1} Q{:.1},{:.1} {:.1},{:.1}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{:.1}\"{dash}{head}/>",
        begin.0,
        begin.1,
        control.0,
        control.1,
        finish.0,
        finish.1,
        line.tone.line(),
        line.width,
    );
    if line.label.is_empty() {
        return;
    }
    let letters = line.label.iter().map(|label| label.chars().count()).max().unwrap_or(0) as f64;
    let (width, height) = (label_width(letters), line.label.len() as f64 * LABEL_HEIGHT);
    // Along the curve, where no other label is yet, nearest to the middle first.
    let place = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74].map(|along| curve(begin, control, finish, along));
    let free = |(x, y): &(f64, f64)| {
        !taken.iter().any(|(other_x, other_y, other_width, other_height): &(f64, f64, f64, f64)| {
            (x - other_x).abs() < (width + other_width) / 2.0 + 2.0
                && (y - other_y).abs() < (height + other_height) / 2.0
        })
    };
    let (x, y) = place.into_iter().find(free).unwrap_or(place[0]);
    taken.push((x, y, width, height));
    let mut row = y - height / 2.0 + 10.0;
    // Legible across lines.
    let _ = writeln!(
        labels,
        "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"3\" fill=\"#ffffff\" opacity=\"0.94\"/>",
        x - width / 2.0,
        y - height / 2.0,
    );
    for label in &line.label {
        let _ = writeln!(
            labels,
            "<text x=\"{x:.1}\" y=\"{row:.1}\" font-size=\"{SMALL_SIZE}\" text-anchor=\"middle\" fill=\"{}\">{}</text>",
            if line.tone == Tone::Faint { "#5b6770" } else { line.tone.line() },
            escaped(label),
        );
        row += LABEL_HEIGHT;
    }
}

/// A label of so many letters.
fn label_width(letters: f64) -> f64 {
    letters * SMALL_SIZE * 0.55 + 6.0
}

/// A point of a quadratic curve.
fn curve(begin: (f64, f64), control: (f64, f64), finish: (f64, f64), along: f64) -> (f64, f64) {
    let mix = |a: f64, b: f64, c: f64| {
        (1.0 - along).powi(2) * a + 2.0 * along * (1.0 - along) * b + along.powi(2) * c
    };
    (mix(begin.0, control.0, finish.0), mix(begin.1, control.1, finish.1))
}

/// Where a line from the middle of a spot towards a point leaves its box, and somewhat beyond.
fn edge(spot: &Spot, middle: (f64, f64), towards: (f64, f64), beyond: f64) -> (f64, f64) {
    let (dx, dy) = (towards.0 - middle.0, towards.1 - middle.1);
    let length = dx.hypot(dy);
    if length < 1.0 {
        return middle;
    }
    let (half_width, half_height) = (spot.width() / 2.0, spot.height() / 2.0);
    let across = if dx.abs() < 0.01 { f64::INFINITY } else { half_width / dx.abs() };
    let along = if dy.abs() < 0.01 { f64::INFINITY } else { half_height / dy.abs() };
    let share = across.min(along).min(1.0) + beyond / length;
    (middle.0 + dx * share, middle.1 + dy * share)
}

/// A name as it is drawn: of a long one the beginning.
fn shown(name: &str) -> String {
    let name = printable(name);
    if name.chars().count() <= NAME_LETTERS {
        return name;
    }
    name.chars().take(NAME_LETTERS - 1).chain(['…']).collect()
}

/// A text between tags or quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(name: &str, place: Option<(f64, f64)>) -> Spot {
        Spot {
            id: name.to_owned(),
            name: name.to_owned(),
            note: String::new(),
            tone: Tone::Plain,
            round: false,
            place,
        }
    }

    fn line(from: &str, to: &str) -> Line {
        Line {
            from: from.to_owned(),
            to: to.to_owned(),
            label: vec!["1 ms".to_owned()],
            tone: Tone::Strong,
            width: 2.0,
            dashed: false,
            arrow: true,
        }
    }

    fn picture(spots: Vec<Spot>, lines: Vec<Line>, layout: Layout) -> Picture {
        Picture {
            title: "Title".to_owned(),
            subtitle: String::new(),
            layout,
            spots,
            lines,
            legend: vec![(Tone::Red, true, "red")],
        }
    }

    /// Middle and size of the boxes.
    fn boxes(picture: &Picture) -> Vec<(f64, f64, f64, f64)> {
        let placed = layout::place(picture);
        let size = |(spot, (x, y)): (&Spot, &(f64, f64))| (*x, *y, spot.width(), spot.height());
        picture.spots.iter().zip(&placed.spots).map(size).collect()
    }

    fn overlap(picture: &Picture) -> Option<(usize, usize)> {
        let boxes = boxes(picture);
        (0..boxes.len()).flat_map(|a| (0..a).map(move |b| (a, b))).find(|(a, b)| {
            let (a, b) = (boxes[*a], boxes[*b]);
            (a.0 - b.0).abs() < (a.2 + b.2) / 2.0 && (a.1 - b.1).abs() < (a.3 + b.3) / 2.0
        })
    }

    #[test]
    fn nothing_from_the_network_becomes_a_tag() {
        let hostile = "<script>alert(\"x\")</script>&'\u{1b}[2J\u{202e}";
        let mut evil = line(hostile, "b");
        evil.label = vec![hostile.to_owned()];
        let mut picture = picture(vec![spot(hostile, None), spot("b", None)], vec![evil], Layout::Flow);
        (picture.title, picture.subtitle) = (hostile.to_owned(), hostile.to_owned());
        picture.spots[0].note = hostile.to_owned();
        let svg = picture.svg();
        assert!(!svg.contains("<script") && !svg.contains("alert(\"") && !svg.contains('\u{1b}'), "{svg}");
        assert!(svg.chars().all(|c| c == '\n' || !c.is_control()));
        let opened = svg.matches('<').count() - svg.matches("</").count();
        assert_eq!(opened, svg.matches("/>").count() + svg.matches("</").count(), "tags that open close");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn names_never_cover_each_other() {
        let crowded = (0..30).map(|i| spot(&format!("fra-{i}"), Some((50.1 + f64::from(i % 3) * 0.01, 8.7))));
        let world = [("gru-1", (-23.5, -46.6)), ("sin-1", (1.35, 103.8)), ("syd-1", (-33.9, 151.2))];
        let world = world.into_iter().map(|(name, place)| spot(name, Some(place)));
        let map = picture(crowded.chain(world).collect(), Vec::new(), Layout::Map);
        assert_eq!(overlap(&map), None);
        for count in [1, 2, 3, 8, 60, 256] {
            let spots = (0..count).map(|i| spot(&format!("relay-with-a-long-name-{i}"), None)).collect();
            let circle = picture(spots, Vec::new(), Layout::Map);
            assert_eq!(overlap(&circle), None, "{count}");
        }
        let names: Vec<String> = (0..12).map(|i| format!("r{i}")).collect();
        let lines =
            names.windows(2).map(|pair| line(&pair[0], &pair[1])).chain([line("r0", "r5"), line("r5", "r0")]);
        let flow =
            picture(names.iter().map(|name| spot(name, None)).collect(), lines.collect(), Layout::Flow);
        assert_eq!(overlap(&flow), None);
        let placed = layout::place(&map);
        for (x, y, width, height) in boxes(&map) {
            assert!(x - width / 2.0 >= 0.0 && x + width / 2.0 <= placed.width, "{x}");
            assert!(y - height / 2.0 >= 0.0 && y + height / 2.0 <= placed.height, "{y}");
        }
    }

    #[test]
    fn lines_between_the_same_two_bend_apart() {
        let spots = vec![spot("a", None), spot("b", None)];
        let picture = picture(spots, vec![line("a", "b"), line("b", "a"), line("a", "b")], Layout::Flow);
        // From b the middle one is straight, and the others lie on different sides.
        assert_eq!(picture.bends(), [-22.0, -0.0, 22.0]);
        let around = Picture {
            lines: vec![line("a", "b"), line("b", "c"), line("a", "c")],
            spots: ["a", "b", "c"].map(|name| spot(name, None)).to_vec(),
            ..picture
        };
        assert!(layout::place(&around).bends[2] > 40.0, "not across the box between");
    }
}
