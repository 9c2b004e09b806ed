//! How figures are printed.

use std::fmt::Write as _;
use std::time::Duration;

/// A figure of the second table.
pub struct Row {
    name: String,
    value: Value,
    goal: Option<Goal>,
    durability: &'static str,
    note: String,
}

/// What figures of agentd are measured with.
const DURABILITY: &str = "WAL, FULL";

#[derive(Clone, Copy)]
enum Value {
    Number(f64),
    Time(Duration),
}

#[derive(Clone, Copy)]
enum Goal {
    Least(f64),
    Most(Value),
}

impl Row {
    pub fn of(name: impl Into<String>) -> Self {
        Self { name: name.into(), value: Value::Number(0.0), goal: None, durability: DURABILITY, note: String::new() }
    }

    pub fn value(mut self, value: f64) -> Self {
        self.value = Value::Number(value);
        self
    }

    pub fn time(mut self, time: Duration) -> Self {
        self.value = Value::Time(time);
        self
    }

    /// The goal: at least so much.
    pub fn least(mut self, least: f64) -> Self {
        self.goal = Some(Goal::Least(least));
        self
    }

    /// The goal: at most so much.
    pub fn most(mut self, most: f64) -> Self {
        self.goal = Some(Goal::Most(Value::Number(most)));
        self
    }

    /// The goal: at most so long.
    pub fn within(mut self, most: Duration) -> Self {
        self.goal = Some(Goal::Most(Value::Time(most)));
        self
    }

    /// What it was measured with, when it is none of agentd's.
    #[allow(dead_code, reason = "only the bench of the gateway has rows that differ")]
    pub fn durability(mut self, durability: &'static str) -> Self {
        self.durability = durability;
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl Value {
    fn text(self) -> String {
        match self {
            Self::Number(number) if number < 1000.0 => format!("{number:.1}"),
            Self::Number(number) => format!("{number:.0}"),
            Self::Time(time) => micros(time),
        }
    }

    /// To compare with a goal of the same kind.
    fn size(self) -> f64 {
        match self {
            Self::Number(number) => number,
            Self::Time(time) => time.as_secs_f64(),
        }
    }
}

pub fn print_versions() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "agentd {} · actix-web {} · rusqlite {} with SQLite {} · {cores} cores\n\
         journal_mode=WAL, synchronous=FULL, authentication, body limits and request log on\n",
        env!("CARGO_PKG_VERSION"),
        locked("actix-web"),
        locked("rusqlite"),
        rusqlite::version(),
    );
}

pub fn print_rows(rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    println!("| Figure | Measured | Goal | Durability | |\n|---|---:|---|---|---|");
    for Row { name, value, goal, durability, note } in rows {
        let mut text = String::new();
        let _ = match goal {
            None => Ok(()),
            Some(Goal::Least(least)) => {
                let met = if value.size() >= *least { "met" } else { "**missed**" };
                write!(text, "≥ {}, {met}", Value::Number(*least).text())
            }
            Some(Goal::Most(most)) => {
                let met = if value.size() <= most.size() { "met" } else { "**missed**" };
                write!(text, "≤ {}, {met}", most.text())
            }
        };
        println!("| {name} | {} | {text} | {durability} | {note} |", value.text());
    }
    println!();
}

/// The version of a library in this build.
fn locked(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let package = lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")));
    let version = package.and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
    version.unwrap_or("unknown")
}

/// A line of the first table.
pub fn row(name: &str, values: &[f64], goal: &str) {
    let text = |value: &f64| Value::Number(*value).text();
    let second = values.get(1).map_or(String::new(), text);
    println!("| {name} | {} | {second} | {goal} |", text(&values[0]));
}

/// A line of the first table.
pub fn times(name: &str, empty: Duration, full: Duration, goal: &str) {
    println!("| {name} | {} | {} | {goal} |", micros(empty), micros(full));
}

pub fn micros(time: Duration) -> String {
    if time < Duration::from_millis(10) {
        format!("{} µs", time.as_micros())
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    }
}
