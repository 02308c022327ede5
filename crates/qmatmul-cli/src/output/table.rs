//! Rows for people: columns on a terminal, and Markdown.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement};
use qmatmul_report::{Cell, Column};
use std::io::IsTerminal;

/// Characters that a column of Markdown is padded to at most.
const WIDEST: usize = 200;

/// What a row shows to people: the columns that have a title and a value in some row.
struct Shown {
    titles: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Shown {
    fn of(columns: &[Column], rows: &[Vec<Cell>]) -> Self {
        let is_shown = |i: &usize| columns[*i].title.is_some() && rows.iter().any(|row| !row[*i].is_blank());
        let shown: Vec<usize> = (0..columns.len()).filter(is_shown).collect();
        let texts = |row: &Vec<Cell>| shown.iter().map(|i| row[*i].text()).collect();
        Self {
            titles: shown.iter().filter_map(|i| columns[*i].title).collect(),
            right: shown.iter().map(|i| rows.iter().any(|row| row[*i].is_number())).collect(),
            rows: rows.iter().map(texts).collect(),
        }
    }
}

impl Shown {
    /// Characters of a line in which numbers stay whole and words can be read.
    fn least_width(&self) -> usize {
        const WORD: usize = 8;
        let widest = |i: usize| {
            let texts = self.rows.iter().map(|row| &*row[i]).chain([self.titles[i]]);
            let widest = texts.map(|text| text.chars().count()).max().unwrap_or(0);
            if self.right[i] { widest } else { widest.min(WORD) }
        };
        let columns = self.titles.len();
        (0..columns).map(widest).sum::<usize>() + 2 * columns.saturating_sub(1)
    }
}

/// The columns that standard output shows; none where it is no terminal and `COLUMNS` says nothing.
pub fn width() -> Option<u16> {
    let said = || std::env::var("COLUMNS").ok()?.parse().ok();
    match std::io::stdout().is_terminal() {
        true => terminal_size::terminal_size().map(|(width, _)| width.0).or_else(said),
        false => said(),
    }
}

/// Columns with two spaces between them, in lines of at most `width` characters.
pub fn columns(columns: &[Column], rows: &[Vec<Cell>], width: Option<u16>) -> String {
    let shown = Shown::of(columns, rows);
    if width.is_some_and(|width| shown.least_width() > usize::from(width)) {
        return cards(columns, rows, width);
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(&shown.titles).add_rows(&shown.rows);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(20));
    }
    for (i, (column, right)) in table.column_iter_mut().zip(&shown.right).enumerate() {
        column.set_padding((0, if i + 1 == shown.right.len() { 0 } else { 2 }));
        if *right {
            // Numbers are not broken.
            column.set_constraint(ColumnConstraint::ContentWidth).set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A block for each row, a line for each column: what is too wide for columns.
pub fn cards(columns: &[Column], rows: &[Vec<Cell>], width: Option<u16>) -> String {
    let mut text = String::new();
    for row in rows {
        let shown: Vec<_> =
            columns.iter().zip(row).filter(|(c, cell)| c.title.is_some() && !cell.is_blank()).collect();
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.add_rows(
            shown.iter().map(|(column, cell)| [column.title.unwrap_or_default().to_owned(), cell.text()]),
        );
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(20));
        }
        let widest =
            columns.iter().filter_map(|c| c.title).map(|title| title.chars().count()).max().unwrap_or(0);
        for (i, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if i == 0 { 2 } else { 0 }));
            if i == 0 {
                let width = comfy_table::Width::Fixed(widest as u16 + 2);
                column.set_constraint(ColumnConstraint::Absolute(width));
            }
        }
        text.extend(table.lines().map(|line| format!("{}\n", line.trim_end())));
        text.push('\n');
    }
    text.pop();
    text
}

/// A table of Markdown.
pub fn markdown(columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let shown = Shown::of(columns, rows);
    let escaped = |row: &Vec<String>| row.iter().map(|text| text.replace('|', "\\|")).collect::<Vec<_>>();
    let rows: Vec<_> = shown.rows.iter().map(escaped).collect();
    // Once for all rows, of which there may be a hundred thousand; a name as long as a page widens
    // no other row.
    let width = |i: usize| {
        let head = shown.titles[i].chars().count();
        rows.iter().map(|r| r[i].chars().count().min(WIDEST)).max().unwrap_or(0).max(head)
    };
    let widths: Vec<usize> = (0..shown.titles.len()).map(width).collect();
    let line = |fields: Vec<&str>| {
        let pad = |(i, f): (usize, &&str)| match shown.right[i] {
            true => format!(" {f:>w$} |", w = widths[i]),
            false => format!(" {f:<w$} |", w = widths[i]),
        };
        format!("|{}\n", fields.iter().enumerate().map(pad).collect::<String>())
    };
    let rule = |(width, right): (&usize, &bool)| {
        format!("{}{}|", "-".repeat(width + 1), if *right { ":" } else { "-" })
    };
    let rule: String = widths.iter().zip(&shown.right).map(rule).collect();
    let head = line(shown.titles.clone()) + "|" + &rule + "\n";
    rows.iter().fold(head, |text, row| text + &line(row.iter().map(String::as_str).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmatmul_report::{column, machine};

    const COLUMNS: &[Column] =
        &[column("name", "name"), column("bytes", "bytes"), machine("hidden"), column("why", "why not")];

    fn rows() -> Vec<Vec<Cell>> {
        vec![vec!["a,\"b\"|\u{1b}[31m\nc".into(), 12usize.into(), "no".into(), Cell::Empty]]
    }

    #[test]
    fn markdown_has_the_columns_that_say_something() {
        let wanted = "| name                 | bytes |\n|----------------------|------:|\n| a,\"b\"\\|\\u{1b}[31m\\nc |    12 |\n";
        assert_eq!(markdown(COLUMNS, &rows()), wanted);
    }

    #[test]
    fn columns_fit_the_terminal() {
        let mut all = rows();
        all.push(vec![
            "blk.0.attn_output.weight ".repeat(9).into(),
            Cell::Float(1e9, 0),
            Cell::Empty,
            "w ".repeat(60).into(),
        ]);
        for width in [20, 80, 120] {
            let text = columns(COLUMNS, &all, Some(width));
            assert!(text.lines().all(|l| l.chars().count() <= usize::from(width)), "{width}\n{text}");
            assert!(text.contains("1000000000") && !text.contains('\u{1b}'), "numbers stay whole\n{text}");
        }
        assert_eq!(columns(COLUMNS, &rows(), None).lines().count(), 2);
    }

    #[test]
    fn cards_fit_the_terminal() {
        let mut all = rows();
        all[0][3] = "word ".repeat(60).into();
        let text = cards(COLUMNS, &all, Some(60));
        assert!(text.lines().all(|l| l.chars().count() <= 60), "{text}");
        assert!(text.starts_with("name     a,") && text.contains("\nwhy not  word word"), "{text}");
    }
}
