//! Tables that fit the width that there is: what matters least goes first.

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

/// Between two columns.
const GAP: usize = 2;

/// The narrowest that a column becomes that may be cut.
const NARROWEST: usize = 8;

/// A column.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Numbers stand at the right.
    pub(super) right: bool,
    /// May be cut before columns are left out. Names may, numbers may not.
    pub(super) cut: bool,
    /// Which are left out first where not all fit: those with the highest number. None of number 0 ever is.
    pub(super) rank: u8,
}

impl Column {
    pub(super) const fn text(title: &'static str, rank: u8) -> Self {
        Self { title, right: false, cut: true, rank }
    }

    pub(super) const fn word(title: &'static str, rank: u8) -> Self {
        Self { title, right: false, cut: false, rank }
    }

    pub(super) const fn number(title: &'static str, rank: u8) -> Self {
        Self { title, right: true, cut: false, rank }
    }
}

/// A cell, and how it looks.
pub(super) type Cell = (String, Style);

/// A cell that looks like any other.
pub(super) fn plain(text: impl Into<String>) -> Cell {
    (text.into(), Style::new())
}

/// The titles and then the rows, none wider than `width`. `ellipsis` stands where something was cut.
pub(super) fn table(columns: &[Column], rows: &[Vec<Cell>], width: usize, ellipsis: &str) -> Vec<Line<'static>> {
    let natural: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|(text, _)| Span::raw(&**text).width());
            cells.max().unwrap_or(0).max(column.title.len())
        })
        .collect();
    let widths = fit(columns, natural, width);
    let title = Style::new().add_modifier(Modifier::BOLD);
    let titles = columns.iter().map(|column| (column.title.to_uppercase(), title)).collect();
    let all = std::iter::once(&titles).chain(rows);
    all.map(|cells: &Vec<Cell>| line(columns, &widths, cells, ellipsis)).collect()
}

/// The width of each column, `None` for those that are left out.
fn fit(columns: &[Column], natural: Vec<usize>, width: usize) -> Vec<Option<usize>> {
    let mut widths: Vec<Option<usize>> = natural.into_iter().map(Some).collect();
    loop {
        let shown: Vec<usize> = widths.iter().flatten().copied().collect();
        let taken = shown.iter().sum::<usize>() + GAP * shown.len().saturating_sub(1);
        let Some(over) = taken.checked_sub(width).filter(|over| *over > 0) else { return widths };
        // What may be cut first, the widest of it; only then whole columns.
        let widest = (0..columns.len())
            .filter(|at| columns[*at].cut && widths[*at] > Some(NARROWEST))
            .max_by_key(|at| widths[*at]);
        let least = (0..columns.len())
            .filter(|at| widths[*at].is_some() && columns[*at].rank > 0)
            .max_by_key(|at| columns[*at].rank);
        match (widest, least) {
            (Some(at), _) => widths[at] = widths[at].map(|width| width.saturating_sub(over.min(1)).max(NARROWEST)),
            (None, Some(at)) => widths[at] = None,
            // Whoever draws cuts the line.
            (None, None) => return widths,
        }
    }
}

fn line(columns: &[Column], widths: &[Option<usize>], cells: &[Cell], ellipsis: &str) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    for ((column, width), (text, style)) in columns.iter().zip(widths).zip(cells) {
        let Some(width) = *width else { continue };
        if !spans.is_empty() {
            spans.push(Span::raw(" ".repeat(GAP)));
        }
        let text = cut(text, width, ellipsis);
        let space = " ".repeat(width.saturating_sub(Span::raw(&*text).width()));
        let padded = if column.right { space + &text } else { text + &space };
        spans.push(Span::styled(padded, *style));
    }
    Line::from(spans)
}

/// The text in so many columns.
pub(super) fn cut(text: &str, width: usize, ellipsis: &str) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    for letter in text.chars() {
        let longer = format!("{shown}{letter}");
        if Span::raw(&*longer).width() + Span::raw(ellipsis).width() > width {
            break;
        }
        shown = longer;
    }
    shown + ellipsis
}
