// SPDX-License-Identifier: Apache-2.0
use super::*;

fn parse(line: &str) -> Result<Args, UsageError> {
    Args::parse(line.split_terminator(' ').map(OsString::from))
}

#[test]
fn flags() {
    let args = parse("--marker a --report r --expect e --marker b").unwrap();
    let expected = Args {
        report: "r".into(),
        markers: vec![b"a".to_vec(), b"b".to_vec()],
        expect: Some("e".into()),
    };
    assert_eq!(args, expected);
    assert!(matches!(parse(""), Err(UsageError::NoReport)));
    assert!(matches!(parse("--expect"), Err(UsageError::NoValue(_))));
    assert!(matches!(parse("report"), Err(UsageError::Unknown(_))));
    assert!(matches!(
        parse("--report r --marker  --expect e"),
        Err(UsageError::EmptyMarker)
    ));
}
