//! Any text as a policy or as a file of access keys, and a decision by it. The resource and the client's name follow, each after a zero.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let mut parts = data.splitn(3, '\0');
    let [text, resource, user_agent] = [(); 3].map(|()| parts.next().unwrap_or("*"));
    streamlog::gateway::fuzzing::policy(text, resource, user_agent);
});
