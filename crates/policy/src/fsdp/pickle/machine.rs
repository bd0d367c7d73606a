//! The stack machine that a pickle is a program for, without the calls.

use super::{Call, Id, Name, Node, PickleError, names};
use std::collections::HashMap;

/// Instructions of a pickle, at most. One of a model of 1,000 tensors has about 200,000.
const MOST_STEPS: usize = 8_000_000;
/// Protocols that `torch.save` has written or can be told to write.
const PROTOCOLS: std::ops::RangeInclusive<u8> = 2..=5;

/// Reads a pickle from start to end.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// First byte of the instruction at hand.
    instruction: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack that later instructions go back to.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

type Step<T> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            instruction: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Every object, and the one that the pickle is of.
    pub(super) fn run(mut self) -> Step<(Vec<Node>, Id)> {
        for _ in 0..MOST_STEPS {
            self.instruction = self.at;
            let code = self.byte()?;
            if code == b'.' {
                let root = self.pop()?;
                return Ok((self.nodes, root));
            }
            self.step(code)?;
        }
        Err(self.invalid("has more instructions than any checkpoint needs"))
    }

    fn step(&mut self, code: u8) -> Step<()> {
        match code {
            // PROTO
            0x80 => {
                let protocol = self.byte()?;
                if !PROTOCOLS.contains(&protocol) {
                    return Err(self.invalid(format!("has protocol {protocol}, not 2 to 5")));
                }
            }
            // FRAME: only a hint for readers of streams.
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'N' => self.push(Node::Nothing),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'K' | b'M' | b'J' | 0x8a => self.integer(code)?,
            // BINFLOAT
            b'G' => {
                self.take(8)?;
                self.push(Node::Nothing);
            }
            b'X' | 0x8c | 0x8d => {
                let text = self.text(code)?;
                self.push(Node::Text(text));
            }
            b')' => self.push(Node::Tuple(Vec::new())),
            b't' => {
                let elements = self.pop_mark()?;
                self.push(Node::Tuple(elements));
            }
            0x85..=0x87 => {
                let elements = self.pop_last(usize::from(code - 0x84))?;
                self.push(Node::Tuple(elements));
            }
            b']' => self.push(Node::List(Vec::new())),
            b'l' => {
                let elements = self.pop_mark()?;
                self.push(Node::List(elements));
            }
            b'}' => self.push(Node::Dict(Vec::new())),
            b'd' => {
                let entries = self.pop_mark()?;
                let entries = self.pairs(&entries)?;
                self.push(Node::Dict(entries));
            }
            // EMPTY_SET
            0x8f => self.push(Node::List(Vec::new())),
            // APPEND, APPENDS, ADDITEMS
            b'a' => {
                let elements = self.pop_last(1)?;
                self.append(elements)?;
            }
            b'e' | 0x90 => {
                let elements = self.pop_mark()?;
                self.append(elements)?;
            }
            b's' => {
                let entry = self.pop_last(2)?;
                self.set_items(&entry)?;
            }
            b'u' => {
                let entries = self.pop_mark()?;
                self.set_items(&entries)?;
            }
            b'q' | b'r' | 0x94 => self.put(code)?,
            b'h' | b'j' => self.get(code)?,
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(&module, &name)?;
            }
            0x93 => {
                let both = self.pop_last(2)?;
                let text = |id: &Id| match &self.nodes[id.0] {
                    Node::Text(text) => Some(text.clone()),
                    _ => None,
                };
                let (Some(module), Some(name)) = (text(&both[0]), text(&both[1])) else {
                    return Err(self.invalid("names something without text"));
                };
                self.name(&module, &name)?;
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let both = self.pop_last(2)?;
                self.call(both[0], both[1])?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            // BINPERSID
            b'Q' => {
                let description = self.pop()?;
                self.push(Node::Outside(description));
            }
            other => {
                return Err(self.invalid(format!(
                    "has instruction 0x{other:02x}, which weights do not need,"
                )));
            }
        }
        Ok(())
    }

    fn integer(&mut self, code: u8) -> Step<()> {
        let value = match code {
            b'K' => i64::from(self.byte()?),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            // LONG1: two's complement of as many bytes as the first says.
            _ => {
                let count = usize::from(self.byte()?);
                if count > 8 {
                    return Err(self.invalid(format!("has a number of {count} bytes")));
                }
                let digits = self.take(count)?;
                let negative = digits.last().is_some_and(|last| last & 0x80 != 0);
                let mut bytes = [if negative { 0xff } else { 0 }; 8];
                bytes[..count].copy_from_slice(digits);
                i64::from_le_bytes(bytes)
            }
        };
        self.push(Node::Int(value));
        Ok(())
    }

    fn text(&mut self, code: u8) -> Step<String> {
        let count = match code {
            b'X' => u64::from(u32::from_le_bytes(self.array()?)),
            0x8c => u64::from(self.byte()?),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(usize::try_from(count).unwrap_or(usize::MAX))?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.invalid("has a text that is not UTF-8")),
        }
    }

    fn put(&mut self, code: u8) -> Step<()> {
        let key = match code {
            b'q' => u32::from(self.byte()?),
            b'r' => u32::from_le_bytes(self.array()?),
            // MEMOIZE: under the next number.
            _ => self.memo.len() as u32,
        };
        let Some(&top) = self.stack.last() else {
            return Err(self.underflow());
        };
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, code: u8) -> Step<()> {
        let key = match code {
            b'h' => u32::from(self.byte()?),
            _ => u32::from_le_bytes(self.array()?),
        };
        let Some(&id) = self.memo.get(&key) else {
            return Err(self.invalid(format!("uses object {key} before it is there")));
        };
        self.stack.push(id);
        Ok(())
    }

    fn name(&mut self, module: &str, name: &str) -> Step<()> {
        match names::lookup(module, name) {
            Some(name) => {
                self.push(Node::Name(name));
                Ok(())
            }
            None => Err(self.foreign(format!("{module}.{name}"))),
        }
    }

    /// Takes a note of a call.
    fn call(&mut self, function: Id, arguments: Id) -> Step<()> {
        let Node::Name(function) = self.nodes[function.0] else {
            return Err(self.invalid("calls something that is no function"));
        };
        let Node::Tuple(elements) = &self.nodes[arguments.0] else {
            return Err(self.invalid("calls a function without arguments"));
        };
        if function == Name::Attribute {
            // The one class inside of a class that weights need.
            let state = match elements[..] {
                [object, key] => {
                    self.nodes[object.0] == Node::Name(Name::ShardedTensor)
                        && self.nodes[key.0] == Node::Text("ProcessGroupState".to_owned())
                }
                _ => false,
            };
            if !state {
                return Err(self.foreign("builtins.getattr".to_owned()));
            }
            self.push(Node::Name(Name::Ignored));
            return Ok(());
        }
        self.push(Node::Call(Call {
            function,
            arguments,
            state: None,
            items: Vec::new(),
        }));
        Ok(())
    }

    fn build(&mut self, state: Id) -> Step<()> {
        let Some(&top) = self.stack.last() else {
            return Err(self.underflow());
        };
        match &mut self.nodes[top.0] {
            Node::Call(call) if call.state.is_none() => {
                call.state = Some(state);
                Ok(())
            }
            _ => Err(self.invalid("gives a state to something that takes none")),
        }
    }

    fn append(&mut self, elements: Vec<Id>) -> Step<()> {
        let Some(&top) = self.stack.last() else {
            return Err(self.underflow());
        };
        match &mut self.nodes[top.0] {
            Node::List(list) => {
                list.extend(elements);
                Ok(())
            }
            _ => Err(self.invalid("appends to something that is no list")),
        }
    }

    fn set_items(&mut self, entries: &[Id]) -> Step<()> {
        let entries = self.pairs(entries)?;
        let Some(&top) = self.stack.last() else {
            return Err(self.underflow());
        };
        match &mut self.nodes[top.0] {
            Node::Dict(dict) => dict.extend(entries),
            Node::Call(call) if call.function == Name::OrderedDict => call.items.extend(entries),
            _ => return Err(self.invalid("puts entries into something that is no dictionary")),
        }
        Ok(())
    }

    fn pairs(&self, entries: &[Id]) -> Step<Vec<(Id, Id)>> {
        let (pairs, rest) = entries.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.invalid("has a key without a value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn push(&mut self, node: Node) {
        self.stack.push(Id(self.nodes.len()));
        self.nodes.push(node);
    }

    /// Height of the stack above which things may be taken off.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.floor();
        match self.stack.pop() {
            Some(id) if self.stack.len() >= floor => Ok(id),
            _ => Err(self.underflow()),
        }
    }

    /// The top `count`, in the order in which they were put there.
    fn pop_last(&mut self, count: usize) -> Step<Vec<Id>> {
        match self.stack.len().checked_sub(count) {
            Some(height) if height >= self.floor() => Ok(self.stack.split_off(height)),
            _ => Err(self.underflow()),
        }
    }

    /// Everything above the last mark.
    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => Err(self.underflow()),
        }
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next `count` bytes, of which none is copied before they are known to be there.
    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match rest.get(..count) {
            Some(bytes) => {
                self.at += count;
                Ok(bytes)
            }
            None => Err(self.invalid(format!(
                "ends {} bytes after an instruction that needs {count},",
                rest.len()
            ))),
        }
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            return Err(self.invalid("ends inside a name"));
        };
        self.at += end + 1;
        match std::str::from_utf8(&rest[..end]) {
            Ok(line) => Ok(line.to_owned()),
            Err(_) => Err(self.invalid("has a name that is not UTF-8")),
        }
    }

    fn underflow(&self) -> PickleError {
        self.invalid("takes more from its stack than is there")
    }

    fn foreign(&self, name: String) -> PickleError {
        // A name can be as long as the file.
        let name = name.chars().take(200).collect();
        PickleError::Foreign {
            at: self.instruction,
            name,
        }
    }

    fn invalid(&self, problem: impl Into<String>) -> PickleError {
        PickleError::Invalid {
            at: self.instruction,
            problem: problem.into(),
        }
    }
}
