// SPDX-License-Identifier: Apache-2.0
//! Tests of the state directory: ours or refused, held by one, cleaned after a kill.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn base(dir: &Path) -> Base {
    Base::at(&dir.join("m"))
}

#[test]
fn who_is_root_is_decided_outside() {
    assert_eq!(outer_uid(0, "         0          0 4294967295\n"), 0);
    assert_eq!(outer_uid(0, "         0       1000          1\n"), 1000);
    assert_eq!(outer_uid(7, "0 1000 1\n1 100000 65536\n"), 100_006);
    assert_eq!(outer_uid(1000, ""), 1000);
}

#[test]
fn names_are_short_labels() {
    let base = Base::at(Path::new("/run/maille"));
    assert!(base.state("default").is_ok());
    for bad in [
        "",
        "..",
        "a/b",
        "A",
        "a.b",
        "a-very-long-name-indeed",
        "-a",
        "a\0",
    ] {
        assert!(
            matches!(base.state(bad), Err(Expected::Name { .. })),
            "{bad:?}"
        );
    }
    let deep = Base::at(Path::new(&format!("/{}", "d".repeat(60))));
    assert!(matches!(
        deep.state("a"),
        Err(Expected::StateTooLong { .. })
    ));
}

#[test]
fn held_once_and_released() {
    let dir = tempfile::tempdir().unwrap();
    let state = base(dir.path()).state("x").unwrap();
    assert!(matches!(state.holder().unwrap(), Holder::Absent));
    let held = state.hold().unwrap();
    let mode = fs::metadata(state.dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let error = state.hold().unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(Expected::Running { pid, .. }) if *pid == std::process::id().to_string()
    ));
    assert!(
        matches!(state.holder().unwrap(), Holder::Alive(up, _) if up == Process::own().unwrap())
    );
    held.remove().unwrap();
    assert!(!dir.path().join("m").exists());
}

#[test]
fn what_a_killed_one_left_is_cleaned() {
    let dir = tempfile::tempdir().unwrap();
    let state = base(dir.path()).state("x").unwrap();
    drop(state.hold().unwrap());
    fs::create_dir(state.dir().join("pods")).unwrap();
    fs::write(state.dir().join("pods/a"), "stale").unwrap();
    assert!(matches!(state.holder().unwrap(), Holder::Dead(_)));
    let held = state.hold().unwrap();
    assert!(!state.dir().join("pods").exists());
    drop(held);
    state.remove().unwrap();
    assert!(matches!(state.holder().unwrap(), Holder::Absent));
}

#[test]
fn directories_of_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = base(dir.path()).state("x").unwrap();
    let refused = |state: &State| {
        let error = state.hold().unwrap_err();
        matches!(error.downcast_ref(), Some(Expected::StateNotOurs { .. }))
    };
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    symlink(dir.path().join("elsewhere"), dir.path().join("m")).unwrap();
    assert!(refused(&state), "a symbolic link was followed");
    fs::remove_file(dir.path().join("m")).unwrap();
    fs::create_dir(dir.path().join("m")).unwrap();
    fs::set_permissions(dir.path().join("m"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(
        refused(&state),
        "a directory that everybody may write was taken"
    );
    fs::set_permissions(dir.path().join("m"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink(dir.path().join("elsewhere"), state.dir()).unwrap();
    assert!(refused(&state), "a symbolic link was followed");
}

#[test]
fn a_lock_that_is_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = base(dir.path()).state("x").unwrap();
    drop(state.hold().unwrap());
    fs::remove_file(state.dir().join(LOCK)).unwrap();
    fs::write(dir.path().join("victim"), "1 1\n").unwrap();
    symlink(dir.path().join("victim"), state.dir().join(LOCK)).unwrap();
    assert!(state.hold().is_err());
    assert_eq!(
        fs::read_to_string(dir.path().join("victim")).unwrap(),
        "1 1\n"
    );
}

#[test]
fn another_process_with_the_same_pid_is_not_meant() {
    let own = Process::own().unwrap();
    assert!(own.alive());
    let older = Process {
        started: own.started - 1,
        ..own
    };
    assert!(!older.alive());
    assert!(!older.signal(Signal::SIGKILL));
    assert!(!Process::nobody().signal(Signal::SIGKILL));
}

#[test]
fn start_times_survive_odd_names() {
    let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
    assert_eq!(start_time(&format!("7 (a) b ) {tail}")), Some(4242));
    assert_eq!(start_time(""), None);
}
