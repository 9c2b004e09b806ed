//! What strangers send, made up by libFuzzer. Nothing may panic, and what a
//! target promises must hold. `make fuzz` runs every target for a while.
//!
//! `FUZZ_TARGET` chooses one; a folder of that name in `fuzz/corpus` has its
//! first inputs. With `FUZZ_SEEDS`, those of `request` that come from the
//! interface's document are written to that folder.

#![no_main]

mod outside;
mod parsers;
mod service;

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// What is done with an input.
type Target = fn(&[u8]);

const TARGETS: &[(&str, Target)] = &[
    ("key", parsers::key),
    ("time", parsers::time),
    ("size", parsers::size),
    ("config", parsers::config),
    ("json", parsers::json),
    ("query", parsers::query),
    ("tools", parsers::tools),
    ("summary", parsers::summary),
    ("goal", parsers::goal),
    ("target", outside::target),
    ("url", outside::url),
    ("unpack", outside::unpack),
    ("page", outside::page),
    ("robots", outside::robots),
    ("backup", outside::backup),
    ("form", outside::form),
    ("batch", outside::batch),
    ("stream", outside::stream),
    ("model", outside::model),
    ("request", service::request),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    if let Some(folder) = std::env::var_os("FUZZ_SEEDS") {
        write_seeds(Path::new(&folder));
    }
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let known: Vec<_> = TARGETS.iter().map(|(known, _)| known).collect();
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?} and must be one of {known:?}")).1
});

/// One file for each.
fn write_seeds(folder: &Path) {
    for (number, seed) in service::seeds().into_iter().enumerate() {
        std::fs::write(folder.join(format!("route-{number}")), seed).expect("a seed is written");
    }
}

fuzz_target!(|input: &[u8]| TARGET(input));
