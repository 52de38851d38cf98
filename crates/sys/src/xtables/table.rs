// SPDX-License-Identifier: Apache-2.0
//! A whole table: entries one after the other, which name each other by their distance from the first. Pure.
//!
//! Read, changed and written with everything that is not ours as it was: entries are bytes here, and only where they lead is
//! understood. Must never trust a length in what it reads. Read `encode.rs` for what an entry is made of.

use std::collections::HashMap;

use super::encode::{self, RETURN, layout, put};
use super::{Chain, Family, Hook};

/// Hooks that the packet filter has; a table has some of them.
const HOOKS: usize = 5;
const TABLE_NAME: usize = 32;
/// `struct ipt_getinfo`.
const INFO: usize = TABLE_NAME + 4 + 2 * 4 * HOOKS + 8;
/// Before the entries of `struct ipt_get_entries`.
const ENTRIES: usize = 40;
/// Before the entries of `struct ipt_replace`.
const REPLACE: usize = 96;
/// The head of a match or target.
const HEAD: usize = 32;
/// More than anybody has: 64 MB.
const MOST: usize = 64 << 20;

/// What a table is like.
pub(super) struct Info {
    hooks: u32,
    entry: [u32; HOOKS],
    last: [u32; HOOKS],
    count: u32,
    size: u32,
}

/// A table of one family.
pub(super) struct Table {
    family: Family,
    entries: Vec<Entry>,
    hooks: [Option<Builtin>; HOOKS],
    /// The next number.
    next: Id,
}

/// A number that an entry keeps, wherever it is.
type Id = usize;

/// A built-in chain: its first entry, and its last, which is its policy.
#[derive(Clone, Copy)]
struct Builtin {
    first: Id,
    last: Id,
}

struct Entry {
    id: Id,
    bytes: Vec<u8>,
    leads: Leads,
}

/// What becomes of what an entry fits.
enum Leads {
    /// Its bytes say so.
    Elsewhere,
    /// To the next entry.
    Next,
    /// To that one.
    To(Id),
    /// Nothing fits: a chain of this name begins.
    Title(Vec<u8>),
}

// === impl Info ===

impl Info {
    pub(super) fn request(table: &str) -> Vec<u8> {
        let mut bytes = vec![0; INFO];
        put(&mut bytes, 0, table.as_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let numbers = |at: usize| {
            let mut numbers = [0; HOOKS];
            for (number, at) in numbers.iter_mut().zip((at..).step_by(4)) {
                *number = word(bytes, at)?;
            }
            Some(numbers)
        };
        let parse = || {
            Some(Self {
                hooks: word(bytes, TABLE_NAME)?,
                entry: numbers(TABLE_NAME + 4)?,
                last: numbers(TABLE_NAME + 4 + 4 * HOOKS)?,
                count: word(bytes, INFO - 8)?,
                size: word(bytes, INFO - 4)?,
            })
        };
        let info = parse().ok_or("its description is too short")?;
        if usize::try_from(info.size).is_ok_and(|size| size <= MOST) {
            Ok(info)
        } else {
            Err("it is too large")
        }
    }

    pub(super) fn entries_request(&self, table: &str) -> Vec<u8> {
        let mut bytes = vec![0; ENTRIES + self.size as usize];
        put(&mut bytes, 0, table.as_bytes());
        put(&mut bytes, TABLE_NAME, &self.size.to_ne_bytes());
        bytes
    }
}

// === impl Table ===

impl Table {
    /// Of what the kernel answers to [`Info::entries_request`].
    pub(super) fn parse(family: Family, info: &Info, bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.get(ENTRIES..).unwrap_or_default();
        let (entries, offsets) = entries(family, bytes)?;
        if entries.len() != info.count as usize {
            return Err("it has not as many entries as it says");
        }
        let id = |offset: u32| {
            let found = offsets.binary_search(&(offset as usize));
            found.map_err(|_| "it leads to where no entry is")
        };
        let mut hooks = [None; HOOKS];
        for (number, hook) in hooks.iter_mut().enumerate() {
            if info.hooks & (1 << number) != 0 {
                let (first, last) = (id(info.entry[number])?, id(info.last[number])?);
                *hook = Some(Builtin { first, last });
            }
        }
        Ok(Self {
            family,
            next: entries.len(),
            entries,
            hooks,
        })
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a chain out, and all that leads there.
    pub(super) fn remove(&mut self, name: &str) {
        let named =
            |entry: &Entry| matches!(&entry.leads, Leads::Title(title) if title == name.as_bytes());
        let Some(title) = self.entries.iter().position(named) else {
            return;
        };
        // A chain ends where the next begins, or at the table's last entry, which is a title too.
        let begins = |entry: &Entry| {
            let builtin = self
                .hooks
                .iter()
                .flatten()
                .any(|hook| hook.first == entry.id);
            builtin || matches!(entry.leads, Leads::Title(_))
        };
        let after = self.entries.iter().skip(title + 1);
        let end = title + 1 + after.take_while(|entry| !begins(entry)).count();
        let first = self.entries.get(title + 1).map(|entry| entry.id);
        self.entries.drain(title..end);
        let leads = |entry: &Entry| matches!(entry.leads, Leads::To(id) if Some(id) == first);
        while let Some(at) = self.entries.iter().position(leads) {
            let gone = self.entries.remove(at).id;
            if let Some(next) = self.entries.get(at).map(|entry| entry.id) {
                self.retarget(gone, next);
            }
        }
    }

    /// Whatever led to `gone` leads to `next`.
    fn retarget(&mut self, gone: Id, next: Id) {
        for entry in &mut self.entries {
            if matches!(entry.leads, Leads::To(id) if id == gone) {
                entry.leads = Leads::To(next);
            }
        }
        for hook in self.hooks.iter_mut().flatten() {
            if hook.first == gone {
                hook.first = next;
            }
        }
    }

    /// Puts a chain of these rules in, first at its hook.
    pub(super) fn add(&mut self, chain: &Chain, rules: Vec<Vec<u8>>) -> Result<(), &'static str> {
        let number = match chain.hook {
            Hook::Arriving => 0,
            Hook::Leaving => 3,
        };
        let hook = self.hooks[number].ok_or("it has no such hook")?;
        let family = self.family;
        let title = Leads::Title(chain.name.as_bytes().to_vec());
        let mut added = vec![self.entry(encode::title(family, chain.name), title)];
        let ends = [encode::always(family, RETURN)];
        for bytes in rules.into_iter().chain(ends) {
            added.push(self.entry(bytes, Leads::Elsewhere));
        }
        let first = added[1].id;
        // Before the last entry, which ends the table.
        let end = self.entries.len().checked_sub(1).ok_or("it has no end")?;
        self.entries.splice(end..end, added);
        let jump = self.entry(encode::always(family, 0), Leads::To(first));
        let at = self.entries.iter().position(|entry| entry.id == hook.first);
        let at = at.ok_or("a hook leads nowhere")?;
        self.hooks[number] = Some(Builtin {
            first: jump.id,
            ..hook
        });
        self.entries.insert(at, jump);
        Ok(())
    }

    fn entry(&mut self, bytes: Vec<u8>, leads: Leads) -> Entry {
        let id = self.next;
        self.next += 1;
        Entry { id, bytes, leads }
    }

    /// `struct ipt_replace` with the entries. `counts` is where the kernel may write.
    pub(super) fn request(
        &self,
        table: &str,
        counts: usize,
        before: usize,
    ) -> Result<Vec<u8>, &'static str> {
        let lengths = self.entries.iter().scan(0, |end, entry| {
            let at = *end;
            *end += entry.bytes.len();
            Some((entry.id, at))
        });
        let offsets: HashMap<Id, usize> = lengths.collect();
        let offset = |id: Id| {
            let offset = offsets.get(&id).and_then(|at| u32::try_from(*at).ok());
            offset.ok_or("an entry leads nowhere")
        };
        let count = |number: usize| u32::try_from(number).map_err(|_| "it is too large");
        let mut request = vec![0; REPLACE];
        put(&mut request, 0, table.as_bytes());
        let mut hooks = 0_u32;
        for (number, hook) in self.hooks.iter().enumerate() {
            if let Some(hook) = hook {
                hooks |= 1 << number;
                put(
                    &mut request,
                    44 + 4 * number,
                    &offset(hook.first)?.to_ne_bytes(),
                );
                put(
                    &mut request,
                    64 + 4 * number,
                    &offset(hook.last)?.to_ne_bytes(),
                );
            }
        }
        let size = self.entries.iter().map(|entry| entry.bytes.len()).sum();
        let numbers = [hooks, count(self.len())?, count(size)?];
        for (at, number) in (TABLE_NAME..).step_by(4).zip(numbers) {
            put(&mut request, at, &number.to_ne_bytes());
        }
        put(&mut request, 84, &count(before)?.to_ne_bytes());
        put(&mut request, 88, &counts.to_ne_bytes());
        for entry in &self.entries {
            let at = request.len();
            request.extend(&entry.bytes);
            let to = match entry.leads {
                Leads::Elsewhere | Leads::Title(_) => continue,
                Leads::Next => count(at - REPLACE + entry.bytes.len())?,
                Leads::To(id) => offset(id)?,
            };
            let verdict = verdict_at(self.family, &entry.bytes).ok_or("an entry has no verdict")?;
            put(&mut request, at + verdict, &to.to_ne_bytes());
        }
        Ok(request)
    }
}

/// The entries of a table, numbered as they come, and where each begins.
fn entries(family: Family, bytes: &[u8]) -> Result<(Vec<Entry>, Vec<usize>), &'static str> {
    let (mut cut, mut offsets, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let size = half(rest, layout(family).offsets + 2).ok_or("an entry is cut off")?;
        let entry = rest
            .get(..size.into())
            .filter(|_| usize::from(size) > layout(family).size);
        cut.push(entry.ok_or("an entry is not as long as it says")?);
        offsets.push(at);
        at += usize::from(size);
    }
    let mut entries = Vec::with_capacity(cut.len());
    for (id, (entry, at)) in cut.into_iter().zip(&offsets).enumerate() {
        let leads = leads(family, entry, *at, &offsets)?;
        entries.push(Entry {
            id,
            bytes: entry.to_vec(),
            leads,
        });
    }
    Ok((entries, offsets))
}

/// What an entry that begins at `at` does.
fn leads(
    family: Family,
    entry: &[u8],
    at: usize,
    offsets: &[usize],
) -> Result<Leads, &'static str> {
    let target = usize::from(half(entry, layout(family).offsets).ok_or("an entry is cut off")?);
    let name = entry
        .get(target + 2..target + HEAD - 1)
        .ok_or("an entry has no target")?;
    match until_zero(name) {
        b"ERROR" => {
            let title = entry.get(target + HEAD..).unwrap_or_default();
            Ok(Leads::Title(until_zero(title).to_vec()))
        }
        b"" => {
            let verdict = word(entry, target + HEAD).ok_or("an entry has no verdict")?;
            // What is negative is a verdict, what is not a place.
            match i32::try_from(verdict) {
                Err(_) => Ok(Leads::Elsewhere),
                Ok(_) if verdict as usize == at + entry.len() => Ok(Leads::Next),
                Ok(_) => {
                    let found = offsets.binary_search(&(verdict as usize));
                    found
                        .map(Leads::To)
                        .map_err(|_| "it leads to where no entry is")
                }
            }
        }
        _ => Ok(Leads::Elsewhere),
    }
}

fn verdict_at(family: Family, entry: &[u8]) -> Option<usize> {
    Some(usize::from(half(entry, layout(family).offsets)?) + HEAD)
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    two.try_into().ok().map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    four.try_into().ok().map(u32::from_ne_bytes)
}
