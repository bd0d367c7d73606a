//! What was written, where: a tree of TOML values in which every value knows its origin.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a value of a recipe came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Nobody wrote it: the program's default.
    Default,
    /// Nobody wrote it: it follows from another setting.
    Derived {
        /// The dotted key of that setting.
        from: &'static str,
    },
    /// The preset that `method` names.
    Preset {
        /// The method, for example `seele`.
        method: String,
    },
    /// A recipe file.
    File {
        /// The file as it was named.
        path: Arc<Path>,
        /// Line, from 1.
        line: usize,
        /// The file was reached through `extends`.
        base: bool,
    },
    /// An override on the command line.
    Set {
        /// The whole argument, `a.b=value`.
        argument: Arc<str>,
    },
}

impl Origin {
    /// The folder that a relative path written here starts from; `None` is the current folder.
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::File { path, .. } => path.parent().map(Path::to_path_buf),
            _ => None,
        }
    }

    /// Precedence: a value with a higher rank replaces one with a lower rank.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Default | Self::Derived { .. } => 0,
            Self::Preset { .. } => 1,
            Self::File { base: true, .. } => 2,
            Self::File { base: false, .. } => 3,
            Self::Set { .. } => 4,
        }
    }

    /// Short form for the comments of a resolved recipe.
    pub(crate) fn comment(&self) -> String {
        match self {
            Self::Default => "default".into(),
            Self::Derived { from } => format!("from {from}"),
            Self::Preset { method } => format!("preset {method}"),
            Self::File { path, line, base } => {
                let name = path
                    .file_name()
                    .map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
                format!("{}{name}:{line}", if *base { "base " } else { "" })
            }
            Self::Set { .. } => "--set".into(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Derived { from } => write!(f, "from `{from}`"),
            Self::Preset { method } => write!(f, "preset `{method}`"),
            Self::File { path, line, .. } => write!(f, "{}:{line}", path.display()),
            Self::Set { argument } => write!(f, "--set {argument}"),
        }
    }
}

/// A TOML value. Dates are refused when a file is read: no key of a recipe is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    /// The value's kind, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

impl Node {
    pub(crate) fn table(origin: Origin) -> Self {
        Self {
            value: Value::Table(Table::default()),
            origin,
        }
    }

    /// The node at a dotted key, if every part of the path is there.
    pub(crate) fn find(&self, key: &str) -> Option<&Self> {
        key.split('.')
            .try_fold(self, |node, part| match &node.value {
                Value::Table(table) => table.get(part),
                _ => None,
            })
    }

    /// Says where the value at a dotted key came from; the key is made, without a value, if it is not
    /// there.
    pub(crate) fn set_origin(&mut self, key: &str, origin: Origin) {
        let mut node = self;
        for part in key.split('.') {
            if !matches!(node.value, Value::Table(_)) {
                node.value = Value::Table(Table::default());
            }
            let Value::Table(table) = &mut node.value else {
                return;
            };
            node = table.entry(part);
        }
        node.origin = origin;
    }

    pub(crate) fn find_mut(&mut self, key: &str) -> Option<&mut Self> {
        key.split('.')
            .try_fold(self, |node, part| match &mut node.value {
                Value::Table(table) => table.get_mut(part),
                _ => None,
            })
    }
}

/// Whether two spellings are one key: `policy-loss` is `policy_loss`.
pub(crate) fn same_key(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte == b'-' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| fold(a) == fold(b))
}

/// Entries in the order they were written. Tables of a recipe are small, so lookups scan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table(Vec<(String, Node)>);

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.0
            .iter()
            .find(|(name, _)| same_key(name, key))
            .map(|(_, node)| node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0
            .iter_mut()
            .find(|(name, _)| same_key(name, key))
            .map(|(_, node)| node)
    }

    /// Adds an entry, or replaces the one of that name in its place.
    pub(crate) fn insert(&mut self, key: impl Into<String>, node: Node) {
        let key = key.into();
        match self.get_mut(&key) {
            Some(old) => *old = node,
            None => self.0.push((key, node)),
        }
    }

    /// The entry of that name; an empty table is made where there is none.
    fn entry(&mut self, key: &str) -> &mut Node {
        let found = self.0.iter().position(|(name, _)| same_key(name, key));
        let index = found.unwrap_or_else(|| {
            self.0.push((key.into(), Node::table(Origin::Default)));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Node> {
        let index = self.0.iter().position(|(name, _)| same_key(name, key))?;
        Some(self.0.remove(index).1)
    }

    /// The entries in order.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, (String, Node)> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, (String, Node)> {
        self.0.iter_mut()
    }
}

impl IntoIterator for Table {
    type Item = (String, Node);
    type IntoIter = std::vec::IntoIter<(String, Node)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
