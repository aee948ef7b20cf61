//! The program whose instructions are counted: `krpc-guards CALLERS ROUNDS`.
//!
//! Two runs that differ in `ROUNDS` alone tell what a call costs: starting and ending cancel out.

use std::{env, error::Error};

use krpc_guards::Workload;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u32> = env::args().skip(1).map(|arg| arg.parse()).collect::<Result<_, _>>()?;
    let [callers, rounds] = numbers[..] else {
        return Err("usage: krpc-guards CALLERS ROUNDS".into());
    };
    Workload::start()?.calls(callers, rounds)
}
