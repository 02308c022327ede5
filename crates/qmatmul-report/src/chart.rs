//! A picture with two logarithmic axes: straight lines, and dots whose colour is a format and whose
//! shape a number of tokens. One SVG file that needs nothing else, to be read at half its size.

use std::fmt::Write;

/// A chart in the units of its data.
pub struct Chart {
    pub title: String,
    pub subtitle: String,
    pub x_label: &'static str,
    pub y_label: &'static str,
    pub lines: Vec<Line>,
    pub dots: Vec<Dot>,
}

/// A line that is straight between two points of a logarithmic chart.
pub struct Line {
    pub label: String,
    pub from: (f64, f64),
    pub to: (f64, f64),
    /// The format whose dots it belongs to: it has their colour, and its label at its end. The
    /// label of a line of no format stands along it.
    pub format: Option<String>,
}

/// A case.
pub struct Dot {
    pub format: String,
    pub n: usize,
    /// What its colour and shape do not say.
    pub label: String,
    pub at: (f64, f64),
}

const WIDTH: f64 = 800.0;
const LEFT: f64 = 88.0;
/// The right side without labels of lines.
const RIGHT: f64 = 776.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 474.0;
/// Where the first row of a legend stands.
const LEGEND: f64 = BOTTOM + 80.0;
/// From row to row of a legend, and from label to label at the ends of lines.
const ROW: f64 = 24.0;
const TITLE: f64 = 20.0;
const TEXT: f64 = 15.0;
const SMALL: f64 = 14.0;
/// The smallest that a title is made to fit.
const LEAST: f64 = 12.0;
/// The most dots that have their labels beside them; a pointer on a dot shows it in any case.
const LABELLED: usize = 12;
/// Colours that can be told apart on white and on black.
const COLOURS: [[u8; 3]; 9] = [
    [0x29, 0x79, 0xd9],
    [0xe0, 0x70, 0x2a],
    [0x2f, 0x9e, 0x44],
    [0xd6, 0x33, 0x6c],
    [0x8a, 0x63, 0xd2],
    [0xa1, 0x76, 0x1f],
    [0x0c, 0x99, 0xa8],
    [0x86, 0x8e, 0x96],
    [0xc9, 0xa4, 0x00],
];
/// Corners of the shapes behind the circle.
const SHAPES: [&[(f64, f64)]; 5] = [
    &[(-5.0, -5.0), (5.0, -5.0), (5.0, 5.0), (-5.0, 5.0)],
    &[(0.0, -7.0), (6.5, 5.0), (-6.5, 5.0)],
    &[(0.0, -7.5), (7.5, 0.0), (0.0, 7.5), (-7.5, 0.0)],
    &[(0.0, 7.0), (6.5, -5.0), (-6.5, -5.0)],
    &[
        (-6.0, -2.0),
        (-2.0, -2.0),
        (-2.0, -6.0),
        (2.0, -6.0),
        (2.0, -2.0),
        (6.0, -2.0),
        (6.0, 2.0),
        (2.0, 2.0),
        (2.0, 6.0),
        (-2.0, 6.0),
        (-2.0, 2.0),
        (-6.0, 2.0),
    ],
];
const STYLE: &str = "\
<style>
text { font-family: sans-serif; fill: #222 }
.back { fill: #fff } .frame { fill: none; stroke: #888 } .grid { stroke: #e4e4e4 }
.line { stroke: #555; stroke-width: 2 } .leader { stroke: #999 } .hollow { fill: #fff }
.label { paint-order: stroke; stroke: #fff; stroke-width: 4px; stroke-linejoin: round }
.title { font-weight: bold } .note { fill: #555 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .back, .hollow { fill: #14161a } .grid { stroke: #2c2f36 } .line { stroke: #aaa }
.label { stroke: #14161a } .note { fill: #aaa }
}
</style>
";

impl Chart {
    /// The chart as the text of an SVG file.
    pub fn svg(&self) -> String {
        let keys = Keys::of(self);
        let (legend, bottom) = keys.legend();
        let height = bottom + 16.0;
        let plot = Plot::of(self);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
             {STYLE}<rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
        );
        svg += &fitted((LEFT, 30.0), "title", TITLE, &self.title);
        svg += &fitted((LEFT, 54.0), "note", SMALL, &self.subtitle);
        svg += &self.axes(&plot);
        let mut places = Places { right: plot.right, taken: vec![], levels: vec![] };
        self.occupy(&plot, &mut places);
        for line in self.lines.iter().filter(|line| drawable(line.from) && drawable(line.to)) {
            svg += &plot.line(line, &keys);
        }
        svg += &self.labels_of_lines(&plot, &mut places);
        svg += &self.labels_at_ends(&plot);
        svg += &self.points(&plot, &keys, &mut places);
        svg + &legend + "</svg>\n"
    }

    fn axes(&self, plot: &Plot) -> String {
        let mut svg = String::new();
        for (value, name) in ticks(plot.x) {
            let x = plot.at((value, 1.0)).0;
            svg += &segment("grid", "", (x, TOP), (x, BOTTOM));
            svg += &text((x, BOTTOM + 20.0), SMALL, "text-anchor=\"middle\"", &name);
        }
        for (value, name) in ticks(plot.y) {
            let y = plot.at((1.0, value)).1;
            svg += &segment("grid", "", (LEFT, y), (plot.right, y));
            svg += &text((LEFT - 8.0, y + 5.0), SMALL, "text-anchor=\"end\"", &name);
        }
        let (width, height) = (plot.right - LEFT, BOTTOM - TOP);
        let _ = writeln!(
            svg,
            "<rect class=\"frame\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
        );
        let (middle, centre) = (LEFT + width / 2.0, TOP + height / 2.0);
        svg += &text((middle, BOTTOM + 46.0), TEXT, "text-anchor=\"middle\"", self.x_label);
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 20 {centre})\"");
        svg + &text((20.0, centre), TEXT, &turned, self.y_label)
    }

    /// Takes the places of dots and of level lines, which labels leave free.
    fn occupy(&self, plot: &Plot, places: &mut Places) {
        for dot in self.dots.iter().filter(|dot| drawable(dot.at)) {
            let (x, y) = plot.at(dot.at);
            places.taken.push(Area { x: x - 8.0, y: y - 8.0, width: 16.0, height: 16.0 });
        }
        for line in self.lines.iter().filter(|line| line.is_level()) {
            let ((x, y), (end, _)) = (plot.at(line.from), plot.at(line.to));
            places.levels.push(Area { x, y: y - 1.0, width: end - x, height: 2.0 });
        }
    }

    /// Labels of lines that belong to no format: of levels above or below their right ends, of
    /// slopes along them.
    fn labels_of_lines(&self, plot: &Plot, places: &mut Places) -> String {
        let mut svg = String::new();
        let all = self.lines.iter().filter(|line| drawable(line.from) && drawable(line.to));
        for line in all.filter(|line| line.format.is_none() && !line.label.is_empty()) {
            let (from, to) = (plot.at(line.from), plot.at(line.to));
            if line.is_level() {
                let area = places.on_level(from, to, width(&line.label, SMALL));
                svg += &text((area.x, area.y + 13.0), SMALL, "class=\"label\"", &line.label);
                continue;
            }
            // Of two slopes the lower has its label below.
            let height_at = |line: &Line| line.from.1 / line.from.0;
            let others = self.lines.iter().filter(|other| !other.is_level() && other.format.is_none());
            let is_highest =
                others.fold(0.0, |highest, other| height_at(other).max(highest)) <= height_at(line);
            let angle = (to.1 - from.1).atan2(to.0 - from.0);
            let (x, y) = places.along((from, to), width(&line.label, SMALL), is_highest);
            let turned =
                format!("class=\"label\" transform=\"rotate({:.2} {x:.1} {y:.1})\"", angle.to_degrees());
            svg += &text((x, y), SMALL, &turned, &line.label);
        }
        svg
    }

    /// Labels of lines that belong to a format, right of the frame, at the height of the lines'
    /// ends or as near as there is room.
    fn labels_at_ends(&self, plot: &Plot) -> String {
        let lines = self.lines_with_ends();
        let mut ends: Vec<_> = lines.iter().map(|line| (plot.at(line.to), &line.label)).collect();
        ends.sort_by(|a, b| a.0.1.total_cmp(&b.0.1));
        let mut heights: Vec<f64> = vec![];
        for (at, _) in &ends {
            heights.push(heights.last().map_or(at.1, |last| at.1.max(last + END_ROW)).max(TOP + 6.0));
        }
        let mut limit = BOTTOM - 6.0;
        for height in heights.iter_mut().rev() {
            *height = height.min(limit);
            limit = *height - END_ROW;
        }
        let mut svg = String::new();
        for ((end, label), y) in ends.into_iter().zip(heights) {
            svg += &segment("leader", "", end, (plot.right + 6.0, y));
            svg += &text((plot.right + 10.0, y + 5.0), SMALL, "", label);
        }
        svg
    }

    /// The lines whose labels stand at their ends; none where there is no room for all.
    fn lines_with_ends(&self) -> Vec<&Line> {
        let all = self.lines.iter().filter(|line| line.format.is_some() && !line.label.is_empty());
        let all: Vec<_> = all.filter(|line| drawable(line.from) && drawable(line.to)).collect();
        if all.len() as f64 * END_ROW > BOTTOM - TOP { vec![] } else { all }
    }

    fn points(&self, plot: &Plot, keys: &Keys, places: &mut Places) -> String {
        let dots = || self.dots.iter().filter(|dot| drawable(dot.at));
        let mut svg = String::new();
        for dot in dots() {
            let title = escape(&format!("{} n={} {}", dot.format, dot.n, dot.label));
            let mark = keys.mark(&dot.format, dot.n, plot.at(dot.at));
            let _ = writeln!(svg, "<g>{mark}<title>{title}</title></g>");
        }
        if dots().count() > LABELLED {
            return svg;
        }
        for dot in dots().filter(|dot| !dot.label.is_empty()) {
            if let Some(area) = places.beside(plot.at(dot.at), width(&dot.label, SMALL)) {
                let class = format!("class=\"label\" style=\"fill: {}\"", keys.colour(&dot.format));
                svg += &text((area.x, area.y + 13.0), SMALL, &class, &dot.label);
            }
        }
        svg
    }
}

/// From label to label at the ends of lines.
const END_ROW: f64 = 18.0;

impl Line {
    fn is_level(&self) -> bool {
        drawable(self.from) && drawable(self.to) && self.from.1 == self.to.1
    }
}

/// What colours and shapes mean: formats and numbers of tokens, in order of appearance and of size.
struct Keys<'a> {
    formats: Vec<&'a str>,
    tokens: Vec<usize>,
}

impl<'a> Keys<'a> {
    fn of(chart: &'a Chart) -> Self {
        let (mut formats, mut tokens): (Vec<&str>, Vec<usize>) = (vec![], vec![]);
        for dot in &chart.dots {
            if !formats.contains(&&*dot.format) {
                formats.push(&dot.format);
            }
            tokens.push(dot.n);
        }
        tokens.sort_unstable();
        tokens.dedup();
        Self { formats, tokens }
    }

    fn colour(&self, format: &str) -> String {
        colour(self.formats.iter().position(|other| *other == format).unwrap_or(0))
    }

    fn mark(&self, format: &str, n: usize, at: (f64, f64)) -> String {
        mark(self.tokens.iter().position(|other| *other == n).unwrap_or(0), &self.colour(format), at)
    }

    /// Both legends below the chart, and where they end.
    fn legend(&self) -> (String, f64) {
        let formats = self.formats.iter().map(|format| Entry {
            shape: None,
            colour: self.colour(format),
            name: (*format).into(),
        });
        let tokens = self.tokens.iter().enumerate().map(|(i, n)| Entry {
            shape: Some(i),
            colour: "#868e96".into(),
            name: n.to_string(),
        });
        let (formats, y) = rows("format", formats.collect(), LEGEND);
        let (tokens, y) = rows("n", tokens.collect(), y);
        (formats + &tokens, y - ROW)
    }
}

/// One colour or shape of a legend.
struct Entry {
    /// A patch of the colour where it is none.
    shape: Option<usize>,
    colour: String,
    name: String,
}

/// The entries behind a heading, in as many rows as they need from `y` on, and where the next would
/// be.
fn rows(heading: &str, entries: Vec<Entry>, mut y: f64) -> (String, f64) {
    /// From the mark to its text, and from a text to the next mark.
    const GAPS: (f64, f64) = (14.0, 22.0);
    if entries.is_empty() {
        return (String::new(), y);
    }
    let start = 16.0 + width("format", TEXT) + 16.0;
    let mut svg = text((16.0, y + 5.0), TEXT, "class=\"title\"", heading);
    let mut x = start;
    for Entry { shape, colour, name } in entries {
        let end = x + GAPS.0 + width(&name, SMALL);
        if end > WIDTH - 12.0 && x > start {
            (x, y) = (start, y + ROW);
        }
        svg += &match shape {
            Some(shape) => mark(shape, &colour, (x, y)),
            None => polygon(&[(-6.0, -6.0), (6.0, -6.0), (6.0, 6.0), (-6.0, 6.0)], "patch", &colour, (x, y)),
        };
        svg += &text((x + GAPS.0, y + 5.0), SMALL, "class=\"entry\"", &name);
        x += GAPS.0 + width(&name, SMALL) + GAPS.1;
    }
    (svg, y + ROW)
}

/// From data to the frame.
struct Plot {
    x: (f64, f64),
    y: (f64, f64),
    /// The right side of the frame.
    right: f64,
}

impl Plot {
    /// Around everything that is drawn, with a margin.
    fn of(chart: &Chart) -> Self {
        let ends = chart.lines.iter().flat_map(|line| [line.from, line.to]);
        let points: Vec<_> = ends.chain(chart.dots.iter().map(|d| d.at)).filter(|p| drawable(*p)).collect();
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let (low, high) = values.fold((f64::MAX, 0.0_f64), |(l, h), v| (l.min(v), h.max(v)));
            if high > 0.0 { (low / 1.6, high * 1.6) } else { (0.1, 10.0) }
        };
        let labels = chart.lines_with_ends().into_iter().map(|line| width(&line.label, SMALL));
        let right = match labels.fold(0.0, f64::max) {
            0.0 => RIGHT,
            widest => (WIDTH - widest - 18.0).max((LEFT + WIDTH) / 2.0),
        };
        Self { x: range(&mut points.iter().map(|p| p.0)), y: range(&mut points.iter().map(|p| p.1)), right }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| (value / low).ln() / (high / low).ln();
        (LEFT + share(x, self.x) * (self.right - LEFT), BOTTOM - share(y, self.y) * (BOTTOM - TOP))
    }

    fn line(&self, line: &Line, keys: &Keys) -> String {
        let colour =
            line.format.as_deref().map(|format| format!(" style=\"stroke: {}\"", keys.colour(format)));
        segment("line", &colour.unwrap_or_default(), self.at(line.from), self.at(line.to))
    }
}

/// What a logarithm can show.
fn drawable((x, y): (f64, f64)) -> bool {
    [x, y].iter().all(|v| (1e-30..1e30).contains(v))
}

/// Powers of ten within a range, and 2 and 5 of each where there are few powers.
fn ticks((low, high): (f64, f64)) -> Vec<(f64, String)> {
    let steps: &[f64] = if (high / low).log10() > 3.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|v| (low..=high).contains(v)).map(|v| (v, tick_name(v))).collect()
}

fn tick_name(value: f64) -> String {
    match value {
        v if !(1e-4..1e12).contains(&v) => format!("{v:.0e}"),
        v if v < 1.0 => format!("{v:.4}").trim_end_matches('0').to_owned(),
        v if v < 1e4 => format!("{v:.0}"),
        v if v < 1e6 => format!("{:.0}k", v * 1e-3),
        v if v < 1e9 => format!("{:.0}M", v * 1e-6),
        v => format!("{:.0}G", v * 1e-9),
    }
}

fn segment(class: &str, style: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!("<line class=\"{class}\"{style} x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n")
}

/// A rectangle of the picture, from its upper left corner.
#[derive(Clone, Copy, Debug)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// What a line of small text takes in height.
const LINE: f64 = 16.0;

impl Area {
    fn meets(&self, other: &Self) -> bool {
        let apart = self.x + self.width <= other.x
            || other.x + other.width <= self.x
            || self.y + self.height <= other.y
            || other.y + other.height <= self.y;
        !apart
    }
}

/// What is taken inside of the frame.
struct Places {
    right: f64,
    /// By dots and labels.
    taken: Vec<Area>,
    /// By level lines, on which a label may stand if there is no other place.
    levels: Vec<Area>,
}

impl Places {
    fn is_free(&self, area: &Area) -> bool {
        let inside = area.x >= LEFT + 2.0
            && area.x + area.width <= self.right - 2.0
            && area.y >= TOP + 2.0
            && area.y + area.height <= BOTTOM - 2.0;
        inside && !self.taken.iter().any(|taken| taken.meets(area))
    }

    /// The first of these areas that is free, of lines, too, if there is one.
    fn first(&mut self, areas: &[Area]) -> Option<Area> {
        let free = || areas.iter().filter(|area| self.is_free(area));
        let clear = |area: &&Area| !self.levels.iter().any(|level| level.meets(area));
        let area = *free().find(clear).or_else(|| free().next())?;
        self.taken.push(area);
        Some(area)
    }

    /// Beside a dot, as near as there is room; none where there is none near.
    fn beside(&mut self, (x, y): (f64, f64), width: f64) -> Option<Area> {
        let sides = [(10.0, -LINE / 2.0), (-10.0 - width, -LINE / 2.0)];
        let around = [(-width / 2.0, -LINE - 9.0), (-width / 2.0, 9.0)];
        let corners = [(8.0, -LINE - 6.0), (8.0, 6.0), (-8.0 - width, -LINE - 6.0), (-8.0 - width, 6.0)];
        let offsets = sides.into_iter().chain(around).chain(corners);
        let areas = offsets.map(|(dx, dy)| Area { x: x + dx, y: y + dy, width, height: LINE });
        self.first(&areas.collect::<Vec<_>>())
    }

    /// On a level line, above or below it, as far to the right as there is room; above its end
    /// where there is none.
    fn on_level(&mut self, (start, y): (f64, f64), (end, _): (f64, f64), width: f64) -> Area {
        let end = end.min(self.right - 4.0) - width;
        let start = start.max(LEFT + 4.0).min(end);
        let steps = (0..=20).map(|step| end - (end - start) * f64::from(step) / 20.0);
        let at = |x: f64, dy: f64| Area { x, y: y + dy, width, height: LINE };
        // Nearest to the line first, then as far as several lines of labels.
        let rows = |x: f64| {
            (0..5).flat_map(move |row| {
                [-LINE - 2.0 - LINE * f64::from(row), 2.0 + LINE * f64::from(row)].map(|dy| at(x, dy))
            })
        };
        let mut areas: Vec<_> = steps.flat_map(rows).collect();
        let far = |area: &Area| (area.y + LINE / 2.0 - y).abs();
        areas.sort_by(|a, b| far(a).total_cmp(&far(b)).then(b.x.total_cmp(&a.x)));
        self.first(&areas).unwrap_or(at(end, -LINE - 2.0))
    }

    /// Where a label begins that runs along a line, above or below it, as near to the line's start
    /// as there is room; at its start where there is none.
    fn along(&mut self, (from, to): ((f64, f64), (f64, f64)), width: f64, above: bool) -> (f64, f64) {
        let length = (to.0 - from.0).hypot(to.1 - from.1).max(1.0);
        let (dx, dy) = ((to.0 - from.0) / length, (to.1 - from.1) / length);
        // Perpendicular to the line: up, or down by a line of text.
        let aside = if above { 6.0 } else { -SMALL - 2.0 };
        let start = |at: f64| (from.0 + dx * at + dy * aside, from.1 + dy * at - dx * aside);
        // A turned text is as many small areas along it.
        let areas = |at: f64| -> Vec<Area> {
            let (x, y) = start(at);
            let middle = |far: f64| (x + dx * far + dy * 5.0, y + dy * far - dx * 5.0);
            let steps = (0..=(width / 8.0) as usize).map(|step| middle(8.0 * step as f64));
            steps.map(|(x, y)| Area { x: x - 6.0, y: y - 6.0, width: 12.0, height: 12.0 }).collect()
        };
        let last = (length - width).max(0.0);
        let mut starts = (1..=24).map(|step| last * f64::from(step) / 25.0);
        let free = |at: &f64| areas(*at).iter().all(|area| self.is_free(area));
        let at = starts.find(free).unwrap_or(0.0);
        self.taken.extend(areas(at));
        start(at)
    }
}

/// The colour of a format: one of the table, then darker and lighter ones.
fn colour(number: usize) -> String {
    let mixed = |channel: u8| match number / COLOURS.len() % 3 {
        0 => channel,
        1 => (u16::from(channel) * 11 / 20) as u8,
        _ => 255 - (u16::from(255 - channel) * 11 / 20) as u8,
    };
    let [r, g, b] = COLOURS[number % COLOURS.len()].map(mixed);
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The mark of a number of tokens: shapes first, then the same hollow.
fn mark(number: usize, colour: &str, (x, y): (f64, f64)) -> String {
    let is_hollow = number / (SHAPES.len() + 1) % 2 == 1;
    let (class, fill) = if is_hollow {
        ("dot hollow", format!("stroke=\"{colour}\" stroke-width=\"2\""))
    } else {
        ("dot", format!("fill=\"{colour}\""))
    };
    match number % (SHAPES.len() + 1) {
        0 => format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5.5\" {fill}/>"),
        shape => polygon_of(SHAPES[shape - 1], class, &fill, (x, y)),
    }
}

fn polygon(corners: &[(f64, f64)], class: &str, colour: &str, at: (f64, f64)) -> String {
    polygon_of(corners, class, &format!("fill=\"{colour}\""), at)
}

fn polygon_of(corners: &[(f64, f64)], class: &str, fill: &str, (x, y): (f64, f64)) -> String {
    let corner = |(dx, dy): &(f64, f64)| format!("{:.1},{:.1}", x + dx, y + dy);
    let corners: Vec<_> = corners.iter().map(corner).collect();
    format!("<polygon class=\"{class}\" points=\"{}\" {fill}/>", corners.join(" "))
}

fn text((x, y): (f64, f64), size: f64, attributes: &str, content: &str) -> String {
    let content = escape(content);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size:.1}\" {attributes}>{content}</text>\n")
}

/// A title that ends within the picture: smaller if it is long, and cut if that is not enough.
fn fitted(at: (f64, f64), class: &str, size: f64, content: &str) -> String {
    let room = WIDTH - 12.0 - at.0;
    // Bold letters are wider.
    let wide = |content: &str, size: f64| width(content, size) * if class == "title" { 1.12 } else { 1.0 };
    // A little smaller than what just fits, as sums of widths are rounded.
    let size = (0.999 * size * room / wide(content, size).max(1.0)).clamp(LEAST, size);
    let mut content = content.to_owned();
    while wide(&content, size) > room {
        content = content.chars().take(content.chars().count().saturating_sub(2)).chain(['…']).collect();
    }
    text(at, size, &format!("class=\"{class}\""), &content)
}

/// The width of a text, not less than any of the usual fonts without serifs needs.
fn width(content: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | '(' | ')' | ' ' | '/' | 't' | 'f'
        | 'I' => 0.40,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '…' => 1.0,
        'A'..='Z' | '×' | '+' | '=' | '<' | '>' | '~' | '·' | '→' => 0.84,
        c if c.is_ascii() || ('à'..='ÿ').contains(&c) || c == 'µ' => 0.65,
        _ => 1.05,
    };
    size * content.chars().map(em).sum::<f64>()
}

/// What XML takes as text: a driver may name itself anything.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many formats and numbers of tokens, and lines of both kinds.
    fn chart(formats: usize, tokens: usize) -> Chart {
        let dot = |(format, n): (usize, usize)| Dot {
            format: format!("S<{format}>"),
            n: 1 << n,
            label: "a & \"b\"".into(),
            at: (3.0 * (1.0 + format as f64), 0.01 * (1.0 + n as f64)),
        };
        let all = (0..formats).flat_map(|format| (0..tokens).map(move |n| (format, n)));
        let line = |label: &str, from, to| Line { label: label.into(), from, to, format: None };
        Chart {
            title: "llvmpipe <&>\u{1}\"'".into(),
            subtitle: "driver".into(),
            x_label: "FLOP per byte",
            y_label: "TFLOP/s",
            lines: vec![
                line("copy", (0.1, 0.001), (100.0, 1.0)),
                line("read 123.4 GB/s", (0.1, 0.0009), (100.0, 0.9)),
                line("f32", (100.0, 1.0), (5000.0, 1.0)),
                line("int8 dot", (100.0, 1.03), (5000.0, 1.03)),
                line("f16", (90.0, 0.97), (5000.0, 0.97)),
                line("nothing", (0.0, f64::NAN), (1.0, 1.0)),
            ],
            dots: all.map(dot).collect(),
        }
    }

    /// Lines of formats, whose labels stand at their ends.
    fn growth(count: usize) -> Chart {
        let line = |i: usize| Line {
            label: format!("S<{i}> n=512, 12345.6 ps/weight"),
            from: (0.1, 0.01),
            to: (10.0, 1.0 + 0.001 * i as f64),
            format: Some(format!("S<{i}>")),
        };
        Chart { lines: (0..count).map(line).collect(), ..chart(count, 2) }
    }

    /// Elements that close in order, attributes in quotes, and no bare sign in text.
    fn assert_xml(text: &str) {
        let mut open = vec![];
        let mut rest = text;
        while let Some(at) = rest.find('<') {
            let before = &rest[..at];
            assert!(!before.contains('>'), "{before}");
            for (i, _) in before.match_indices('&') {
                let entity = before[i..].split(';').next().unwrap_or_default();
                assert!(["&amp", "&lt", "&gt", "&quot"].contains(&entity), "{before}");
            }
            let end = at + rest[at..].find('>').expect("a tag ends");
            let tag = &rest[at + 1..end];
            assert!(tag.matches('"').count().is_multiple_of(2) && !tag.contains('<'), "{tag}");
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                None if tag.ends_with('/') => {}
                None => open.push(tag.split(' ').next().unwrap_or_default()),
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }

    fn attribute(element: &str, name: &str) -> Option<f64> {
        element.split_once(&format!(" {name}=\""))?.1.split('"').next()?.parse().ok()
    }

    /// A text, and the box that it takes, unless it is turned.
    fn boxes(svg: &str) -> Vec<(String, Area)> {
        let of = |line: &&str| line.starts_with("<text") && !line.contains("rotate");
        let one = |line: &str| {
            let (tag, rest) = line.split_once('>').expect("a tag");
            let content = rest.strip_suffix("</text>").expect("it ends");
            let plain = content
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&amp;", "&");
            let [x, y, size] = ["x", "y", "font-size"].map(|name| attribute(tag, name).expect("a number"));
            let width = width(&plain, size);
            let x = match tag {
                tag if tag.contains("\"middle\"") => x - width / 2.0,
                tag if tag.contains("\"end\"") => x - width,
                _ => x,
            };
            (plain, Area { x, y: y - size * 0.8, width, height: size })
        };
        svg.lines().filter(of).map(one).collect()
    }

    /// All texts lie inside of the picture, and none on another.
    fn assert_readable(svg: &str) {
        assert_xml(svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let height = attribute(svg.lines().next().expect("a line"), "height").expect("a height");
        let boxes = boxes(svg);
        for (i, (text, area)) in boxes.iter().enumerate() {
            let Area { x, y, width, height: tall } = *area;
            let inside = x >= 0.0 && x + width <= WIDTH && y >= 0.0 && y + tall <= height;
            assert!(inside, "{text} {area:?}");
            for (other, its) in &boxes[i + 1..] {
                assert!(!area.meets(its), "{text} {area:?} on {other} {its:?}");
            }
        }
        // 12 of 800 are 7.5 pixels of 500.
        for line in svg.lines().filter(|line| line.starts_with("<text")) {
            assert!(attribute(line, "font-size").is_some_and(|size| size >= LEAST), "{line}");
        }
        let inside = |x: f64, y: f64| (LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y);
        for line in svg.lines().filter(|l| l.starts_with("<line class=\"line\"")) {
            for (x, y) in [("x1", "y1"), ("x2", "y2")] {
                let at = [x, y].map(|name| attribute(line, name).expect("a number"));
                assert!(inside(at[0], at[1]), "{line}");
            }
        }
        for line in svg.lines().filter(|l| l.starts_with("<g><circle")) {
            let at = ["cx", "cy"].map(|name| attribute(line, name).expect("a number"));
            assert!(inside(at[0], at[1]), "{line}");
        }
    }

    #[test]
    fn charts_of_any_number_of_formats_and_tokens_are_readable() {
        for formats in [1, 2, 8, 9, 28, 60] {
            for tokens in [1, 3, 6, 13] {
                let chart = chart(formats, tokens);
                let svg = chart.svg();
                assert_readable(&svg);
                let (dots, entries) = (svg.matches("<g>").count(), svg.matches("class=\"entry\"").count());
                assert_eq!((dots, entries), (formats * tokens, formats + tokens));
                let labels = svg.matches("class=\"label\"").count();
                let of_lines = 5;
                assert!(labels <= of_lines + if formats * tokens > LABELLED { 0 } else { LABELLED });
            }
        }
    }

    #[test]
    fn lines_of_formats_have_their_labels_at_their_ends() {
        for count in [1, 4, 16, 22, 23, 40] {
            let svg = growth(count).svg();
            assert_readable(&svg);
            let labelled = svg.matches("ps/weight").count();
            assert_eq!(labelled, if count as f64 * END_ROW > BOTTOM - TOP { 0 } else { count });
        }
    }

    /// The colour says the format, the shape the number of tokens.
    #[test]
    fn colours_and_shapes_are_told_apart() {
        let colours: std::collections::BTreeSet<_> = (0..27).map(colour).collect();
        assert_eq!(colours.len(), 27);
        let shapes: std::collections::BTreeSet<_> = (0..12).map(|i| mark(i, "#123456", (0.0, 0.0))).collect();
        assert_eq!(shapes.len(), 12);
        let chart = chart(2, 2);
        let keys = Keys::of(&chart);
        let fill = |format, n| keys.mark(format, n, (0.0, 0.0));
        let shape = |mark: &str| mark[..mark.find("fill").expect("a colour")].to_owned();
        assert_eq!(shape(&fill("S<0>", 2)), shape(&fill("S<1>", 2)));
        assert_ne!(shape(&fill("S<0>", 1)), shape(&fill("S<0>", 2)));
        assert_ne!(keys.colour("S<0>"), keys.colour("S<1>"));
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        let nothing = || Chart { lines: vec![], dots: vec![], ..chart(1, 1) };
        assert_readable(&nothing().svg());
        let odd = Dot { format: "x".into(), n: 1, label: "y".into(), at: (f64::NAN, -1.0) };
        let svg = Chart { dots: vec![odd], ..nothing() }.svg();
        assert_readable(&svg);
        assert_eq!(svg.matches("<g>").count(), 0, "a dot without a place is left out");
        let long = "a driver that names itself at length, and its compiler too ".repeat(4);
        assert_readable(&Chart { title: long.clone(), subtitle: long, ..chart(2, 2) }.svg());
    }

    #[test]
    fn ticks_are_read_by_people() {
        let names = |range| ticks(range).into_iter().map(|t| t.1).collect::<Vec<_>>().join(" ");
        assert_eq!(names((0.05, 30.0)), "0.05 0.1 0.2 0.5 1 2 5 10 20");
        assert_eq!(names((1e3, 1e9)), "1000 10k 100k 1M 10M 100M 1G");
        assert_eq!(names((1e-6, 1e-4)), "1e-6 2e-6 5e-6 1e-5 2e-5 5e-5 0.0001");
    }
}
