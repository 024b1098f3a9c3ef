//! Pages below `docs/` that are made of tables of the program: goldens like those of `snapshots`.

#[path = "../goldens/mod.rs"]
mod goldens;

use std::fs;
use std::path::Path;

/// Compares a page with what the test of that name makes of its table.
pub fn assert_page(name: &str, made: &str, test: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if goldens::renews() {
        fs::write(&path, made).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    goldens::show_difference(&path, &page, made);
    assert!(
        page == made,
        "docs/{name} differs; if that is meant: INSTA_UPDATE=always cargo test --test {test}"
    );
}
