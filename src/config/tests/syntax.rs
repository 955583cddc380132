//! Texts that are not TOML.
use super::*;

#[test]
fn explore() {
    let bare: String = SAMPLE.into();
    let mut at = 0;
    for line in SAMPLE.lines() {
        let mut ends: Vec<usize> = vec![];
        for (i, c) in line.char_indices() {
            if "[]{}=\"',".contains(c) {
                ends.push(i);
            }
        }
        for i in ends {
            let mut text = bare.clone();
            text.remove(at + i);
            if let Err(found) = parse(&text) {
                let ln = text[..at].matches('\n').count() + 1;
                if found.iter().any(|d| d.line != ln) || found.len() > 2 {
                    println!("--- line {ln}: {}", text.lines().nth(ln - 1).unwrap_or_default());
                    println!("{}", show(&found));
                }
            }
        }
        at += line.len() + 1;
    }
}
