//! Up to 64 rules in one tree of names, which is walked beside a record so that its JSON is read once for all of them.

use std::sync::Arc;

use super::condition::{Condition, Scalar};
use super::field::{DATA, FIELDS, Field, Parts};
use super::json::{Json, Kind, Malformed};
use super::pattern::{DataForm, Rule};

/// How many rules one machine has: a bit each.
pub(super) const RULES_PER_MACHINE: usize = u64::BITS as usize;
/// The findings at up to this many nodes are kept on the stack.
const NODES_ON_STACK: usize = 32;

/// Rules, one bit each.
type Rules = u64;

/// What a part of a record means for each rule. A rule that is in neither set demands nothing of this part, or accepts that what it asks
/// for is absent.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    /// A value in this part meets the rule, and none breaks it.
    met: Rules,
    /// The rule is broken.
    broken: Rules,
}

/// A name that rules look at.
#[derive(Debug, Default)]
struct Node {
    /// The names in the object here, in order.
    children: Vec<(String, usize)>,
    /// The conditions for a value here, each with the rules that it belongs to.
    conditions: Vec<(Arc<Condition>, Rules)>,
    /// The rules that need a value here.
    value_needed: Rules,
    /// The rules that need something in the object here.
    fields_needed: Rules,
}

impl Node {
    /// The rules that are broken if there is nothing here.
    fn needed(&self) -> Rules {
        self.value_needed | self.fields_needed
    }

    fn add(&mut self, condition: &Arc<Condition>, bit: Rules) {
        match self.conditions.iter_mut().find(|(known, _)| Arc::ptr_eq(known, condition)) {
            Some((_, rules)) => *rules |= bit,
            None => self.conditions.push((condition.clone(), bit)),
        }
    }

    fn child(&self, name: &str) -> Option<usize> {
        let found = self.children.binary_search_by(|(child, _)| child.as_str().cmp(name));
        found.ok().map(|index| self.children[index].1)
    }

    fn scalar(&self, value: &Scalar<'_>) -> Outcome {
        let mut outcome = Outcome { met: 0, broken: self.fields_needed };
        for (condition, rules) in &self.conditions {
            let side = if condition.is_met_by(value) { &mut outcome.met } else { &mut outcome.broken };
            *side |= rules;
        }
        outcome.met &= !outcome.broken;
        outcome
    }
}

/// Where the nodes of the record's own fields are.
const ROOT: usize = 0;

#[derive(Debug)]
pub(super) struct Machine {
    nodes: Vec<Node>,
    all: Rules,
    /// The rules of patterns that look into JSON data, and (next field) of those that look at data as text.
    json_rules: Rules,
    text_rules: Rules,
    /// The node of the data as JSON, and the conditions for it as text.
    data: usize,
    texts: Node,
    /// The other fields that rules look at, with their nodes.
    fields: Vec<(Field, usize)>,
}

impl Machine {
    /// Makes a machine of at most [`RULES_PER_MACHINE`] rules, each with the form of data that its pattern asks for.
    pub(super) fn new(rules: &[(Rule, DataForm)]) -> Self {
        debug_assert!(rules.len() <= RULES_PER_MACHINE);
        let mut machine = Self {
            nodes: vec![Node::default()],
            all: 0,
            json_rules: 0,
            text_rules: 0,
            data: ROOT,
            texts: Node::default(),
            fields: vec![],
        };
        for (index, (rule, form)) in rules.iter().enumerate() {
            let bit = 1 << index;
            machine.all |= bit;
            match form {
                DataForm::Json => machine.json_rules |= bit,
                DataForm::Text => machine.text_rules |= bit,
                DataForm::Any => {}
            }
            for (path, condition) in rule {
                machine.add(path, condition, bit);
            }
        }
        machine.data = machine.child(ROOT, DATA);
        let root = &machine.nodes[ROOT];
        machine.fields =
            FIELDS.iter().filter_map(|&(name, field)| Some((field, root.child(name)?))).collect();
        machine
    }

    fn add(&mut self, path: &[String], condition: &Arc<Condition>, bit: Rules) {
        if path == [DATA] {
            return self.texts.add(condition, bit);
        }
        let needed = if condition.accepts_absence { 0 } else { bit };
        let mut at = ROOT;
        for name in path {
            self.nodes[at].fields_needed |= needed;
            at = self.child(at, name);
        }
        self.nodes[at].value_needed |= needed;
        self.nodes[at].add(condition, bit);
    }

    /// Returns the node of a name, and makes it if there is none.
    fn child(&mut self, parent: usize, name: &str) -> usize {
        let new = self.nodes.len();
        let children = &mut self.nodes[parent].children;
        match children.binary_search_by(|(child, _)| child.as_str().cmp(name)) {
            Ok(index) => children[index].1,
            Err(index) => {
                children.insert(index, (name.to_owned(), new));
                self.nodes.push(Node::default());
                new
            }
        }
    }

    /// Returns whether a record follows one of the rules.
    pub(super) fn matches(&self, record: &Parts<'_>) -> bool {
        let fields = self.fields.iter().map(|&(field, node)| self.nodes[node].scalar(&record.value(field)));
        let broken = fields.fold(0, |broken, outcome| broken | outcome.broken);
        let left = self.all & !broken;
        if left & !self.json_rules & !self.text_rules != 0 {
            return true;
        }
        if left == 0 {
            return false;
        }
        let Ok(text) = std::str::from_utf8(record.data) else { return false };
        let follows_json = |outcome: Outcome| left & self.json_rules & !outcome.broken != 0;
        left & self.json_rules != 0 && self.json(text).is_ok_and(follows_json)
            || left & self.text_rules & self.texts.scalar(&Scalar::Text(text.into())).met != 0
                && !is_json(text)
    }

    /// Reads all the data, since data that is not JSON follows no rule.
    fn json(&self, text: &str) -> Result<Outcome, Malformed> {
        let mut few = [None; NODES_ON_STACK];
        let mut many = vec![];
        let found = match few.get_mut(..self.nodes.len()) {
            Some(few) => few,
            None => {
                many.resize(self.nodes.len(), None);
                &mut many
            }
        };
        let mut json = Json::new(text);
        let outcome = Walk { nodes: &self.nodes, found }.value(self.data, &mut json)?;
        json.end()?;
        Ok(outcome)
    }
}

/// Whether data that is looked at as text is an object or a list of JSON. Numbers and words are JSON, too, but also text.
fn is_json(text: &str) -> bool {
    let mut json = Json::new(text);
    matches!(json.kind(), Ok(Kind::Object | Kind::List)) && json.skip().and_then(|()| json.end()).is_ok()
}

/// A walk through a document.
struct Walk<'m> {
    nodes: &'m [Node],
    /// What was found for each node in the enclosing object that is being read. If a name occurs twice, the last one counts.
    found: &'m mut [Option<Outcome>],
}

impl Walk<'_> {
    /// Takes the value that is at a node.
    fn value(&mut self, at: usize, json: &mut Json<'_>) -> Result<Outcome, Malformed> {
        let node = &self.nodes[at];
        match json.kind()? {
            Kind::Object => self.object(node, json),
            Kind::List => self.list(at, json),
            _ if node.conditions.is_empty() => {
                json.skip()?;
                Ok(Outcome { met: 0, broken: node.fields_needed })
            }
            kind => Ok(node.scalar(&Scalar::take(json, kind)?)),
        }
    }

    /// All fields of an object must match. An object is not a value.
    fn object(&mut self, node: &Node, json: &mut Json<'_>) -> Result<Outcome, Malformed> {
        for &(_, child) in &node.children {
            self.found[child] = None;
        }
        json.members(|json, name| match node.child(&name.decode()) {
            Some(child) => {
                self.found[child] = Some(self.value(child, json)?);
                Ok(())
            }
            None => json.skip(),
        })?;
        let mut outcome = Outcome { met: 0, broken: node.value_needed };
        for &(_, child) in &node.children {
            let absent = Outcome { met: 0, broken: self.nodes[child].needed() };
            let found = self.found[child].unwrap_or(absent);
            outcome.met |= found.met;
            outcome.broken |= found.broken;
        }
        outcome.met &= !outcome.broken;
        Ok(outcome)
    }

    /// One element of a list must match by itself. For a rule that only requires absence, all elements must match.
    fn list(&mut self, at: usize, json: &mut Json<'_>) -> Result<Outcome, Malformed> {
        let (mut all, mut is_empty) = (Outcome::default(), true);
        json.elements(|json| {
            let element = self.value(at, json)?;
            is_empty = false;
            all.met |= element.met;
            all.broken |= element.broken;
            Ok(())
        })?;
        all.broken &= !all.met;
        if is_empty {
            all.broken = self.nodes[at].needed();
        }
        Ok(all)
    }
}
