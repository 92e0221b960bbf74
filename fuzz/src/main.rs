//! libFuzzer's entry: gives its inputs to the target that `OSIER_FUZZ` names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use osier_fuzz::Target;
use std::sync::OnceLock;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("OSIER_FUZZ").unwrap_or_default();
        let target = osier_fuzz::target(&name).unwrap_or_else(|| panic!("OSIER_FUZZ names no target: '{name}'"));
        let _ = TARGET.set(target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(data);
        }
    }
);
