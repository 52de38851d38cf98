// SPDX-License-Identifier: Apache-2.0
//! The child's mounts, made between `clone3` and `execve`: system calls only, as in `child.rs`. `places.rs` has worked out which.

use std::ffi::CStr;
use std::os::fd::RawFd;

use nix::sched::CloneFlags;

use super::places::{BindPlan, EntryKind, Room};
use super::plan::Plan;
use super::step::{Failed, Step, check, errno};

const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Makes everything in its order: what was there must be opened before anything hides it.
pub(super) fn make(plan: &mut Plan) -> Result<(), Failed> {
    mount(
        // What is mounted here stays here; what is unmounted outside goes here too, or namespaces pinned there would stay for ever.
        Step::PrivateMounts,
        c"none",
        c"/",
        c"",
        libc::MS_REC | libc::MS_SLAVE,
        c"",
    )?;
    for bind in &mut plan.places.binds {
        bind.tree = open_tree(Step::OpenBinds, &bind.from)?;
    }
    for room in &plan.places.rooms {
        make_room(room)?;
    }
    if plan.namespaces.contains(CloneFlags::CLONE_NEWPID) {
        mount(Step::Proc, c"proc", c"/proc", c"proc", QUIET, c"")?;
    }
    for dir in &plan.hidden {
        mount(
            Step::Hide,
            c"hidden",
            dir,
            c"tmpfs",
            QUIET,
            c"mode=0755,size=64k",
        )?;
    }
    for dir in &plan.places.directories {
        make_directory(dir)?;
    }
    for bind in plan.places.binds.iter().filter(|bind| !bind.nested) {
        make_place(bind)?;
    }
    if plan.read_only_root {
        close()?;
    }
    for bind in &plan.places.binds {
        if bind.nested {
            make_place(bind)?;
        }
        if !bind.writable {
            let clear = if bind.program { NO_EXEC } else { 0 };
            attributes(Step::Bind, bind.tree, c"", READ_ONLY, clear)?;
        }
        move_mount(Step::Bind, bind.tree, &bind.at)?;
    }
    for dir in &plan.hidden {
        let flags = QUIET | libc::MS_REMOUNT | libc::MS_RDONLY;
        mount(Step::Seal, c"hidden", dir, c"", flags, c"")?;
    }
    Ok(())
}

/// A file system of its own at `room.at`, with everything that was there.
fn make_room(room: &Room) -> Result<(), Failed> {
    const STEP: Step = Step::NewRoot;
    // Of the root this is only the stage: an entry like the others, but hidden from now on.
    let kept = open_tree(STEP, &room.at)?;
    mount(STEP, c"room", &room.at, c"tmpfs", 0, c"mode=0755")?;
    if let Some(old) = &room.old {
        make_directory(old)?;
        move_mount(STEP, kept, old)?;
    }
    for entry in &room.entries {
        match &entry.kind {
            EntryKind::Link(target) => {
                // SAFETY: live strings.
                check(STEP, unsafe {
                    libc::symlink(target.as_ptr(), entry.new.as_ptr())
                })?;
                continue;
            }
            EntryKind::Directory => make_directory(&entry.new)?,
            EntryKind::File => make_file(&entry.new)?,
        }
        // Where nobody is root of the machine, a new /proc is allowed beside an old one in view, and not otherwise.
        if room.old.is_none() && entry.old.as_c_str() == room.at.as_c_str() {
            move_mount(STEP, kept, &entry.new)?;
            continue;
        }
        match open_tree(STEP, &entry.old) {
            Ok(tree) => move_mount(STEP, tree, &entry.new)?,
            // It went away meanwhile: so does its place.
            Err((_, libc::ENOENT)) => {}
            Err(failed) => return Err(failed),
        }
    }
    match &room.old {
        Some(old) => {
            // SAFETY: live strings.
            unsafe {
                check(STEP, libc::umount2(old.as_ptr(), libc::MNT_DETACH))?;
                check(STEP, libc::rmdir(old.as_ptr()))?;
            }
            Ok(())
        }
        None => enter(&room.at),
    }
}

/// Makes the file system at `root` the root, and leaves the old one (`pivot_root(2)`, "." for both).
fn enter(root: &CStr) -> Result<(), Failed> {
    // SAFETY: live strings.
    unsafe {
        check(Step::NewRoot, libc::chdir(root.as_ptr()))?;
        let here = c".".as_ptr();
        let moved = libc::syscall(libc::SYS_pivot_root, here, here);
        check(Step::NewRoot, i32::try_from(moved).unwrap_or(-1))?;
        check(Step::NewRoot, libc::umount2(here, libc::MNT_DETACH))?;
        check(Step::NewRoot, libc::chdir(c"/".as_ptr()))?;
    }
    Ok(())
}

fn make_place(bind: &BindPlan) -> Result<(), Failed> {
    for dir in &bind.directories {
        make_directory(dir)?;
    }
    if bind.file {
        make_file(&bind.at)?;
    }
    Ok(())
}

fn make_directory(dir: &CStr) -> Result<(), Failed> {
    // SAFETY: a live string.
    let made = unsafe { libc::mkdir(dir.as_ptr(), 0o755) };
    if made < 0 && errno() != libc::EEXIST {
        return Err((Step::MakePlaces, errno()));
    }
    Ok(())
}

fn make_file(file: &CStr) -> Result<(), Failed> {
    // SAFETY: a live string, and a descriptor that is open in between.
    unsafe {
        let flags = libc::O_CREAT | libc::O_RDONLY | libc::O_CLOEXEC;
        let made = check(Step::MakePlaces, libc::open(file.as_ptr(), flags, 0o644))?;
        libc::close(made);
    }
    Ok(())
}

/// Everything read only, but devices and /proc, which have rules of their own.
fn close() -> Result<(), Failed> {
    attributes(Step::Close, libc::AT_FDCWD, c"/", READ_ONLY, 0)?;
    for own in [c"/dev", c"/proc"] {
        // Where the machine itself has them read only they stay so.
        let _ = attributes(Step::Close, libc::AT_FDCWD, own, 0, READ_ONLY);
    }
    Ok(())
}

fn mount(
    step: Step,
    source: &CStr,
    at: &CStr,
    kind: &CStr,
    flags: u64,
    data: &CStr,
) -> Result<(), Failed> {
    // SAFETY: live strings.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    check(step, result).map(drop)
}

/// A detached copy of the mount at `path` and of those below it (`open_tree(2)`), which nothing mounted later can hide.
fn open_tree(step: Step, path: &CStr) -> Result<RawFd, Failed> {
    const CLONE: libc::c_uint = 1;
    let flags = CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: a live string.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    check(step, RawFd::try_from(fd).unwrap_or(-1))
}

/// MOUNT_ATTR_RDONLY.
const READ_ONLY: u64 = 1;
/// MOUNT_ATTR_NOEXEC.
const NO_EXEC: u64 = 8;

/// `mount_setattr(2)` on the mount at `path`, or that `at` is where `path` is empty, and all below it.
fn attributes(step: Step, at: RawFd, path: &CStr, set: u64, clear: u64) -> Result<(), Failed> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attributes = Attributes {
        set,
        clear,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: a live string, a live structure and its size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    check(step, i32::try_from(result).unwrap_or(-1)).map(drop)
}

/// `move_mount(2)`: attaches the detached mount, and lets go of it.
fn move_mount(step: Step, tree: RawFd, at: &CStr) -> Result<(), Failed> {
    const FROM_EMPTY_PATH: libc::c_uint = 4;
    // SAFETY: live strings, and a descriptor that nobody uses afterwards.
    unsafe {
        let moved = libc::syscall(
            libc::SYS_move_mount,
            tree,
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            FROM_EMPTY_PATH,
        );
        let moved = check(step, i32::try_from(moved).unwrap_or(-1));
        libc::close(tree);
        moved.map(drop)
    }
}
