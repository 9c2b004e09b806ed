//! Tables of data.

/// Cells that a table may have when every row is as wide as the widest. Readers
/// of Markdown fill rows up, so a larger one would be a bomb for them.
const MAX_CELLS: usize = 4_000_000;
/// Columns that a cell spans, and rows, as browsers bound them.
const MAX_COLUMNS: usize = 1_000;
const MAX_ROWS: usize = 65_534;

/// The table has too many cells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

struct Cell {
    text: String,
    columns: usize,
    rows: usize,
}

/// A table that is being put together.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn row(&mut self) {
        self.rows.push(Vec::new());
    }

    /// Adds a cell to the last row.
    pub(super) fn cell(&mut self, text: String, columns: Option<usize>, rows: Option<usize>) {
        if self.rows.is_empty() {
            self.row();
        }
        let columns = columns.unwrap_or(1).clamp(1, MAX_COLUMNS);
        // Zero means all rows that follow.
        let rows = match rows.unwrap_or(1) {
            0 => MAX_ROWS,
            rows => rows.min(MAX_ROWS),
        };
        if let Some(row) = self.rows.last_mut() {
            row.push(Cell { text, columns, rows });
        }
    }

    /// The rows with every cell in its column; what spans several stands in the
    /// first. Rows without text are left out.
    fn grid(self) -> Result<Vec<Vec<String>>, TooLarge> {
        let (count, mut width) = (self.rows.len(), 0);
        let mut grid: Vec<Vec<String>> = Vec::new();
        // For each column, how many rows it is still taken by a cell above.
        let mut taken: Vec<usize> = Vec::new();
        for cells in self.rows {
            let mut row: Vec<String> = Vec::new();
            for cell in cells {
                while taken.get(row.len()).is_some_and(|rows| *rows > 0) {
                    row.push(String::new());
                }
                let start = row.len();
                row.push(cell.text);
                row.resize(start + cell.columns, String::new());
                taken.resize(taken.len().max(row.len()), 0);
                // This row is counted down below, with the others.
                taken[start..row.len()].fill(cell.rows);
            }
            for rows in &mut taken {
                *rows = rows.saturating_sub(1);
            }
            width = width.max(row.len());
            if count.saturating_mul(width) > MAX_CELLS {
                return Err(TooLarge);
            }
            if row.iter().any(|text| !text.is_empty()) {
                grid.push(row);
            }
        }
        Ok(grid)
    }

    /// The table's lines as GitHub writes tables. The first row is the head.
    pub(super) fn markdown(self) -> Result<Vec<String>, TooLarge> {
        let grid = self.grid()?;
        let width = grid.iter().map(Vec::len).max().unwrap_or(0);
        let mut lines = Vec::with_capacity(grid.len() + 1);
        for (at, mut row) in grid.into_iter().enumerate() {
            if at == 0 {
                // What is wider than the head is not shown.
                row.resize(width, String::new());
            }
            lines.push(format!("| {} |", row.join(" | ")));
            if at == 0 {
                lines.push(format!("|{}", " --- |".repeat(width)));
            }
        }
        Ok(lines)
    }

    pub(super) fn plain(self) -> Result<Vec<String>, TooLarge> {
        let rows = self.grid()?.into_iter().map(|row| row.join("\t").trim_end().to_owned());
        Ok(rows.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[(&str, usize, usize)]]) -> Table {
        let mut table = Table::default();
        for row in rows {
            table.row();
            for (text, columns, rows) in *row {
                table.cell((*text).to_owned(), Some(*columns), Some(*rows));
            }
        }
        table
    }

    #[test]
    fn spans_keep_every_cell_in_its_column() {
        let lines = table(&[
            &[("a", 1, 1), ("b", 2, 1)],
            &[("c", 1, 2), ("d", 1, 1), ("e", 1, 1)],
            &[("f", 1, 1), ("g", 1, 1), ("h", 1, 1)],
            &[("", 1, 1)],
        ]);
        assert_eq!(
            lines.markdown().expect("small"),
            ["| a | b |  |  |", "| --- | --- | --- | --- |", "| c | d | e |", "|  | f | g | h |"]
        );
        assert_eq!(table(&[&[("a", 1, 0), ("b", 1, 1)], &[("c", 1, 1)]]).plain().expect("small"), ["a\tb", "\tc"]);
        assert!(table(&[&[("", 9, 9)], &[]]).markdown().expect("small").is_empty());
    }

    #[test]
    fn what_readers_would_fill_up_without_end_is_refused() {
        let mut wide = table(&[&[("x", 1_000, 1)]]);
        (0..20_000).for_each(|_| wide.row());
        assert_eq!(wide.markdown(), Err(TooLarge));
        let mut tall = Table::default();
        for _ in 0..20_000 {
            tall.row();
            tall.cell("x".into(), None, Some(1_000));
        }
        assert_eq!(tall.plain(), Err(TooLarge));
    }
}
