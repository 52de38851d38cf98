// SPDX-License-Identifier: Apache-2.0
use super::*;

const ONE: &str = r#"{"pods":[{"address":"10.244.0.2","meshed":true,"name":"shop/a"}]}"#;
const TWO: &str = r#"{"pods":[{"address":"10.244.0.2","meshed":false,"name":"shop/b"}]}"#;

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn a_replaced_file_is_read_again_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("expect.json");
    let mut watched = Watched::new(&path);
    assert!(matches!(watched.refresh(), Err(ExpectError::Read { .. })));
    let address = "10.244.0.2".parse().unwrap();
    replace(&path, ONE);
    watched.refresh().unwrap();
    assert!(watched.now.pod(address).unwrap().meshed);
    replace(&path, "{");
    assert!(matches!(watched.refresh(), Err(ExpectError::Parse { .. })));
    // Not forgotten until it is mended.
    assert!(matches!(watched.refresh(), Err(ExpectError::Parse { .. })));
    assert_eq!(watched.now.pod(address).unwrap().name, "shop/a");
    replace(&path, TWO);
    watched.refresh().unwrap();
    assert_eq!(watched.now.pod(address).unwrap().name, "shop/b");
    assert_eq!(watched.now.pod("10.244.0.3".parse().unwrap()), None);
}

#[test]
fn what_is_unknown_is_refused() {
    for wrong in [
        "{}",
        r#"{"pods":[],"more":1}"#,
        r#"{"pods":[{"address":"x","meshed":true,"name":""}]}"#,
        r#"{"10.244.0.2":"meshed"}"#,
    ] {
        assert!(Expectation::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}
