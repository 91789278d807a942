//! The lineage of shards as a graph in the language of Graphviz.

use std::collections::HashSet;
use std::fmt::Write;

use crate::shards::{Counted, range, sequence};

/// Returns the graph: one node per shard, filled if the shard is open, and an edge from each existing parent to its child.
pub(crate) fn graph(shards: &[Counted]) -> String {
    let mut text = String::from("digraph shards {\n    node [shape=box, fillcolor=lightgrey]\n");
    let there: HashSet<_> = shards.iter().map(|(shard, _)| shard.id).collect();
    for (shard, _) in shards {
        let style = if shard.is_open() { ", style=filled" } else { "" };
        let (id, range, sequence) = (shard.id, range(shard.hash_key_range), sequence(shard));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    \"{id}\" [label=\"{id}\\n{range}\\n{sequence}\"{style}]");
    }
    for (shard, _) in shards {
        for parent in shard.parents().filter(|parent| there.contains(parent)) {
            let _ = writeln!(text, "    \"{parent}\" -> \"{}\"", shard.id);
        }
    }
    text + "}\n"
}
