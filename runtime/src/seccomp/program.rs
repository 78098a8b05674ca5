//! From a [`Policy`] to classic BPF (seccomp(2), "Filters"; linux/filter.h).
//!
//! ```text
//! load arch ─ own? ─▶ load number ─▶ binary search over ranges of numbers ─▶ return
//!      │                                                               └─▶ compare arguments ─▶ return
//!      └─ next arch? … ─▶ kill
//! ```
//!
//! Neighbouring numbers with the same answer are one range, so that the default profile asks about seven questions.
//! Each block ends in a return and jumps only within itself: blocks are put together without labels. Only loads of
//! number and architecture come before an unconditional answer, so that the kernel finds the always-allowed calls when
//! the filter is installed and doesn't run it for them (Linux 5.11, `seccomp_cache_prepare`).

use libc::sock_filter;

use super::arch::{Arch, X32_BIT};
use super::policy::{Action, Answer, ArchPolicy, Condition, Op, Policy, Rule};

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JGT: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JSET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;
/// Both our machines are little-endian.
const HIGH_HALF: u32 = 4;

fn op(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The filter of a policy.
pub(super) fn assemble(policy: &Policy) -> Vec<sock_filter> {
    let mut program = vec![op(LOAD, ARCH)];
    let x32 = policy.arches.iter().find(|a| a.arch == Arch::X32);
    for arch in &policy.arches {
        // x32 has the audit architecture of x86_64 and is part of its block.
        if arch.arch == Arch::X32 {
            continue;
        }
        let mut block = vec![op(LOAD, NUMBER)];
        if arch.arch == Arch::X86_64 && x32.is_some() {
            block.extend([jump(JSET, X32_BIT, 0, 1), op(AND, !X32_BIT)]);
        }
        search(&mut block, &ranges(arch, x32), policy);
        let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
        program.push(jump(JEQ, arch.arch.audit(), 1, 0));
        program.push(op(JUMP, length));
        program.append(&mut block);
    }
    program.push(op(RETURN, Action::KillProcess.code()));
    program
}

/// All numbers as ranges: (first number, answer), by number, the first from 0.
///
/// x32 calls are x86_64's with a bit, which is cleared before the search, and a few of their own from 512 on, where
/// x86_64 has none. (Kernels before 5.4 took those without the bit too; the answer is the same.)
fn ranges(arch: &ArchPolicy, x32: Option<&ArchPolicy>) -> Vec<(u32, Answer)> {
    let mut answers = arch.answers.clone();
    if arch.arch == Arch::X86_64 {
        let own = Arch::X32.private_numbers();
        let own = x32
            .iter()
            .flat_map(|x| &x.answers)
            .filter(|(number, _)| *number >= own);
        answers.extend(own.map(|(number, answer)| (number & !X32_BIT, *answer)));
    }
    answers.sort_unstable_by_key(|(number, _)| *number);
    let mut ranges = Vec::with_capacity(128);
    let mut next = 0;
    let newer = arch.newest.saturating_add(1);
    for (number, answer) in answers {
        gap(&mut ranges, next, number, newer, arch);
        push(&mut ranges, number, answer);
        next = number + 1;
    }
    gap(&mut ranges, next, u32::MAX, newer, arch);
    if arch.arch == Arch::X86_64 && x32.is_none() {
        // As a kernel without x32 says; and a list of refused numbers can't be passed by with that bit.
        let enosys = Answer::Return(Action::Errno(libc::ENOSYS as u16));
        push(&mut ranges, X32_BIT, enosys);
    }
    ranges
}

/// The numbers `from..to`, of which the profile says nothing.
fn gap(ranges: &mut Vec<(u32, Answer)>, from: u32, to: u32, newer: u32, arch: &ArchPolicy) {
    if from < to.min(newer) {
        push(ranges, from, arch.otherwise);
    }
    if from.max(newer) < to {
        push(ranges, from.max(newer), arch.newer);
    }
}

fn push(ranges: &mut Vec<(u32, Answer)>, first: u32, answer: Answer) {
    if ranges.last().is_none_or(|(_, last)| *last != answer) {
        ranges.push((first, answer));
    }
}

/// Code that finds the range of the loaded number.
fn search(program: &mut Vec<sock_filter>, ranges: &[(u32, Answer)], policy: &Policy) {
    match ranges {
        [] => {}
        [(_, Answer::Return(action))] => program.push(op(RETURN, action.code())),
        [(_, Answer::Check(check))] => {
            let (rules, otherwise) = &policy.checks[*check];
            for rule in rules {
                compare(program, rule);
            }
            program.push(op(RETURN, otherwise.code()));
        }
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let at = program.len();
            program.push(op(JGE, high[0].0));
            search(program, low, policy);
            let skip = program.len() - at - 1;
            match u8::try_from(skip) {
                Ok(skip) => program[at].jt = skip,
                Err(_) => {
                    // Conditional jumps reach 255 instructions only; JA reaches all.
                    program[at].jf = 1;
                    let skip = u32::try_from(skip).unwrap_or(u32::MAX);
                    program.insert(at + 1, op(JUMP, skip));
                }
            }
            search(program, high, policy);
        }
    }
}

/// Where a comparison goes on.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// The condition holds.
    Holds,
    /// It doesn't: behind the rule.
    Fails,
}

/// Code that returns the rule's action if all its conditions hold, and else runs on behind it.
/// A rule has at most six conditions of six instructions, so that each jump is short.
fn compare(program: &mut Vec<sock_filter>, rule: &Rule) {
    let mut code: Vec<(sock_filter, To, To, usize)> = Vec::with_capacity(8);
    for condition in &rule.conditions {
        let steps = condition_code(condition);
        let end = code.len() + steps.len();
        code.extend(steps.into_iter().map(|(i, yes, no)| (i, yes, no, end)));
    }
    let behind = code.len() + 1;
    for (at, (mut instruction, yes, no, end)) in code.into_iter().enumerate() {
        let distance = |to| {
            let target = match to {
                To::Next => at + 1,
                To::Holds => end,
                To::Fails => behind,
            };
            u8::try_from(target - at - 1).expect("a rule has at most 37 instructions")
        };
        (instruction.jt, instruction.jf) = (distance(yes), distance(no));
        program.push(instruction);
    }
    program.push(op(RETURN, rule.action.code()));
}

/// A 64-bit comparison: the high halves decide unless they are equal.
fn condition_code(condition: &Condition) -> Vec<(sock_filter, To, To)> {
    use To::{Fails, Holds, Next};
    let low = ARGS + 8 * condition.index;
    let high = low + HIGH_HALF;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = halves(condition.value);
    let load = |offset| (op(LOAD, offset), Next, Next);
    let test = |code, value, yes, no| (op(code, value), yes, no);
    // Greater, or equal in the high half; then `low_test` on the low half.
    let order = |low_test, yes, no| {
        vec![
            load(high),
            test(JGT, value_high, yes, Next),
            test(JEQ, value_high, Next, no),
            load(low),
            test(low_test, value_low, yes, no),
        ]
    };
    match condition.op {
        Op::Equal => vec![
            load(high),
            test(JEQ, value_high, Next, Fails),
            load(low),
            test(JEQ, value_low, Holds, Fails),
        ],
        Op::NotEqual => vec![
            load(high),
            test(JEQ, value_high, Next, Holds),
            load(low),
            test(JEQ, value_low, Fails, Holds),
        ],
        Op::Greater => order(JGT, Holds, Fails),
        Op::GreaterOrEqual => order(JGE, Holds, Fails),
        Op::Less => order(JGE, Fails, Holds),
        Op::LessOrEqual => order(JGT, Fails, Holds),
        Op::MaskedEqual(wanted) => {
            let (wanted_high, wanted_low) = halves(wanted);
            vec![
                load(high),
                (op(AND, value_high), Next, Next),
                test(JEQ, wanted_high, Next, Fails),
                load(low),
                (op(AND, value_low), Next, Next),
                test(JEQ, wanted_low, Holds, Fails),
            ]
        }
    }
}
