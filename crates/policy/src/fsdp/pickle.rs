//! Python's pickle format, read as data.
//!
//! A pickle is a program for a small stack machine, and Python's reader runs whatever functions it names:
//! a file of weights can be made to run anything. This reader has no functions. It keeps what a pickle
//! says in a flat list of nodes, a call as a note of what was to be called with what; and it takes notes
//! only of the names that weights need ([`names`]). A pickle that names anything else is refused, and so is
//! one that asks for more objects than a checkpoint has. Nodes refer to each other by number, so that
//! objects that hold themselves, or each other many times over, cost no more than their bytes.

mod machine;
mod names;

pub(super) use names::Name;

use machine::Machine;

/// Place of a node in its pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(usize);

/// One object of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Also whatever nothing here looks at: `None`, fractions, bytes.
    Nothing,
    Bool(bool),
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class, function or constant.
    Name(Name),
    /// What a function would have made.
    Call(Call),
    /// Something kept outside of the pickle, by its description.
    Outside(Id),
}

/// A call that was not made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) function: Name,
    /// A tuple.
    pub(super) arguments: Id,
    /// What the object would have been given afterwards.
    pub(super) state: Option<Id>,
    /// What would have been put into the object, where it is a dictionary.
    pub(super) items: Vec<(Id, Id)>,
}

/// Why a pickle is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum PickleError {
    /// It names something that weights do not need.
    #[error("it asks for `{name}` at byte {at}")]
    Foreign {
        /// Byte of the pickle.
        at: usize,
        /// Module and name.
        name: String,
    },
    /// It is not as a program would write it.
    #[error("its pickle {problem} at byte {at}")]
    Invalid {
        /// Byte of the pickle.
        at: usize,
        /// What is wrong.
        problem: String,
    },
}

/// All objects of a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    root: Id,
}

impl Pickle {
    /// Reads a pickle of protocol 2 to 5.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, PickleError> {
        let (nodes, root) = Machine::new(bytes).run()?;
        Ok(Self { nodes, root })
    }

    /// The object that the pickle is of.
    pub(super) fn root(&self) -> Id {
        self.root
    }

    /// An object of this pickle.
    pub(super) fn get(&self, id: Id) -> &Node {
        self.nodes.get(id.0).unwrap_or(&Node::Nothing)
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub(super) fn elements(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Node::Tuple(elements) | Node::List(elements) => Some(elements),
            // A size is a tuple of its own type.
            Node::Call(call) if call.function == Name::Size => {
                match self.elements_of(call.arguments)? {
                    [sizes] => self.elements_of(*sizes),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn elements_of(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Node::Tuple(elements) | Node::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// A number that is not negative.
    pub(super) fn count(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Node::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// At most `most` numbers that are not negative.
    pub(super) fn counts(&self, id: Id, most: usize) -> Option<Vec<usize>> {
        let elements = self.elements(id).filter(|all| all.len() <= most)?;
        elements.iter().map(|id| self.count(*id)).collect()
    }

    pub(super) fn call(&self, id: Id) -> Option<&Call> {
        match self.get(id) {
            Node::Call(call) => Some(call),
            _ => None,
        }
    }

    pub(super) fn name(&self, id: Id) -> Option<Name> {
        match self.get(id) {
            Node::Name(name) => Some(*name),
            _ => None,
        }
    }

    /// The entries of a dictionary, ordered or not.
    pub(super) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Node::Dict(entries) => Some(entries),
            Node::Call(call) if call.function == Name::OrderedDict => Some(&call.items),
            _ => None,
        }
    }

    /// The attribute of an object with this state: a dictionary, or one for attributes with and one for
    /// those without a place of their own in the class.
    pub(super) fn attribute(&self, state: Id, key: &str) -> Option<Id> {
        let of = |entries: &[(Id, Id)]| {
            let found = |(id, _): &&(Id, Id)| self.text(*id) == Some(key);
            // No object of weights has more; one that every tensor shares must not cost a search each.
            Some(entries.iter().take(64).find(found)?.1)
        };
        match self.get(state) {
            Node::Dict(entries) => of(entries),
            Node::Tuple(both) if both.len() == 2 => {
                both.iter().find_map(|id| match self.get(*id) {
                    Node::Dict(entries) => of(entries),
                    _ => None,
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(program: &[u8]) -> PickleError {
        Pickle::read(&[&[0x80, 2], program].concat()).unwrap_err()
    }

    fn foreign(program: &[u8]) -> String {
        match refusal(program) {
            PickleError::Foreign { name, .. } => name,
            other => panic!("{other}"),
        }
    }

    fn invalid(program: &[u8]) -> String {
        match refusal(program) {
            PickleError::Invalid { problem, .. } => problem,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_weights_need_is_read_as_data() {
        // {"a": [1, -2, (None, True)], "b": OrderedDict(c=3)}
        let program = b"}q\x00(X\x01\0\0\0a](K\x01J\xfe\xff\xff\xffN\x88\x86e\
            X\x01\0\0\0bccollections\nOrderedDict\n)RX\x01\0\0\0cM\x03\0su.";
        let pickle = Pickle::read(&[&[0x80, 2], &program[..]].concat()).unwrap();
        let entries = pickle.entries(pickle.root()).unwrap();
        assert_eq!(pickle.text(entries[0].0), Some("a"));
        let list = pickle.elements(entries[0].1).unwrap();
        assert_eq!(pickle.count(list[0]), Some(1));
        assert_eq!(pickle.get(list[1]), &Node::Int(-2));
        assert_eq!(pickle.elements(list[2]).map(<[Id]>::len), Some(2));
        let ordered = pickle.entries(entries[1].1).unwrap();
        assert_eq!(pickle.count(ordered[0].1), Some(3));
    }

    #[test]
    fn numbers_of_any_length_up_to_64_bits_are_read() {
        for (digits, expected) in [
            (&b""[..], 0),
            (b"\xff", -1),
            (b"\xff\x00", 255),
            (b"\x00\x80", -32768),
            (b"\xff\xff\xff\xff\xff\xff\xff\x7f", i64::MAX),
        ] {
            let program = [&[0x80, 2, 0x8a, digits.len() as u8], digits, b"."].concat();
            let pickle = Pickle::read(&program).unwrap();
            assert_eq!(pickle.get(pickle.root()), &Node::Int(expected));
        }
        assert_eq!(
            invalid(b"\x8a\x09\0\0\0\0\0\0\0\0\x01."),
            "has a number of 9 bytes"
        );
    }

    #[test]
    fn names_that_weights_do_not_need_are_refused_in_every_spelling() {
        assert_eq!(foreign(b"cos\nsystem\nX\x02\0\0\0id\x85R."), "os.system");
        // By text from the stack, as protocol 4 does.
        assert_eq!(
            foreign(b"\x8c\x08builtins\x8c\x04eval\x93."),
            "builtins.eval"
        );
        // Through a harmless class.
        let getattr =
            b"c__builtin__\ngetattr\nccollections\nOrderedDict\nX\x09\0\0\0__class__\x86R.";
        assert_eq!(foreign(getattr), "builtins.getattr");
        // A name as long as the file is not repeated whole.
        let long = [b"c", &[b'x'; 5000][..], b"\ny\n."].concat();
        assert_eq!(foreign(&long).len(), 200);
    }

    #[test]
    fn instructions_that_weights_do_not_need_are_refused() {
        // INST, OBJ, EXT1, PERSID, NEXT_BUFFER, NEWOBJ_EX, STRING.
        for code in [b'i', b'o', 0x82, b'P', 0x97, 0x92, b'S'] {
            let problem = invalid(&[b'(', code, b'o', b's', b'\n', b'.']);
            assert!(problem.starts_with("has instruction 0x"), "{problem}");
        }
        assert_eq!(
            Pickle::read(b"\x80\x09N.").unwrap_err().to_string(),
            "its pickle has protocol 9, not 2 to 5 at byte 0"
        );
    }

    #[test]
    fn calls_of_what_is_no_function_are_refused() {
        assert_eq!(
            invalid(b"X\x01\0\0\0f)R."),
            "calls something that is no function"
        );
        assert_eq!(
            invalid(b"ctorch\nSize\nNR."),
            "calls a function without arguments"
        );
        assert_eq!(
            invalid(b"K\x01}b."),
            "gives a state to something that takes none"
        );
    }

    #[test]
    fn huge_lengths_and_numbers_of_objects_cost_nothing() {
        for program in [
            &b"X\xff\xff\xff\xffabc"[..],
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc",
            b"\x8a\x08abc",
        ] {
            let problem = invalid(program);
            assert!(problem.starts_with("ends 3 bytes after"), "{problem}");
        }
        // Only as many entries as are put there, whatever their number.
        assert_eq!(
            invalid(b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff."),
            "uses object 4294967294 before it is there"
        );
        let endless = [b"]q\0".to_vec(), b"h\0".repeat(9_000_000)].concat();
        assert_eq!(
            invalid(&endless),
            "has more instructions than any checkpoint needs"
        );
    }

    #[test]
    fn objects_that_hold_each_other_are_no_trouble() {
        // A list that is its own element.
        let pickle = Pickle::read(b"\x80\x02]q\0h\0a.").unwrap();
        assert_eq!(pickle.elements(pickle.root()), Some(&[pickle.root()][..]));
        // Each list holds the one before twice: 2^5000 elements if they were written out.
        let mut program = b"\x80\x02]q\0".to_vec();
        for _ in 0..5000 {
            program.extend_from_slice(b"](h\0h\0eq\0");
        }
        program.push(b'.');
        let pickle = Pickle::read(&program).unwrap();
        assert_eq!(pickle.elements(pickle.root()).map(<[Id]>::len), Some(2));
        assert_eq!(pickle.counts(pickle.root(), 2), None);
        // A hundred thousand tuples, each inside the next.
        let program = [
            b"\x80\x02)".to_vec(),
            b"\x85".repeat(100_000),
            b".".to_vec(),
        ]
        .concat();
        assert!(Pickle::read(&program).is_ok());
    }

    #[test]
    fn a_stack_that_is_too_short_is_noticed() {
        for program in [
            &b"."[..],
            b"R.",
            b"(0.",
            b"(\x85.",
            b"t.",
            b"a.",
            b"(Na.",
            b"q\0.",
            b"}(Nu.",
        ] {
            assert!(matches!(refusal(program), PickleError::Invalid { .. }));
        }
    }

    #[test]
    fn a_pickle_cut_anywhere_or_with_any_byte_changed_never_panics() {
        let program = b"\x80\x02ctorch\nSize\nq\x01(K\x01K\x02t\x85Rq\x02}(X\x01\0\0\0ah\x02u\x86.";
        assert!(Pickle::read(program).is_ok());
        for end in 0..program.len() {
            assert!(Pickle::read(&program[..end]).is_err());
        }
        for at in 0..program.len() {
            for byte in 0..=255 {
                let mut changed = program.to_vec();
                changed[at] = byte;
                let _ = Pickle::read(&changed);
            }
        }
    }
}
