//! Reading pickles that are only data.

use std::collections::HashMap;

use thiserror::Error;

/// Names a value of a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

/// One value. Text and bytes are those of the input; what a container holds is named.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Node<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An `int` of at most 128 bits.
    Int(i128),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Text(&'a str),
    /// A `bytes` or `bytearray`, or a `str` of Python 2.
    Bytes(&'a [u8]),
    /// A `list`.
    List(Vec<NodeId>),
    /// A `tuple`.
    Tuple(Vec<NodeId>),
    /// A `dict` in order of insertion; of equal keys the last one counts.
    Dict(Vec<(NodeId, NodeId)>),
}

/// How much a pickle may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Values in all. Each costs at most 64 bytes of memory besides the input.
    pub nodes: usize,
    /// Containers that are being built inside of each other.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 1 << 25,
            depth: 1000,
        }
    }
}

/// Why a pickle was refused, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("byte {offset}: {problem}")]
pub struct PickleError {
    /// Offset of the opcode.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: PickleProblem,
}

/// What can be wrong with a pickle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PickleProblem {
    /// An opcode by which a pickle imports or calls something.
    #[error(
        "opcode {opcode:#04x} ({name}) would import or call something: only plain data is read"
    )]
    RunsCode {
        /// The opcode.
        opcode: u8,
        /// Its name.
        name: &'static str,
    },
    /// An opcode that is not known.
    #[error(
        "opcode {opcode:#04x} is not read: use protocol 2 to 5, and only int, float, str, bytes, list, tuple and dict"
    )]
    UnknownOpcode {
        /// The opcode.
        opcode: u8,
    },
    /// It ends in the middle.
    #[error("the pickle ends too early: it is cut off")]
    Truncated,
    /// An opcode takes a value that is not there, or of the wrong type.
    #[error("the opcode needs {what}, which is not there: the pickle is damaged")]
    Malformed {
        /// What it needs.
        what: &'static str,
    },
    /// More than the limits allow.
    #[error("there are more than {limit} {what}: that is more than this reads")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// A pickle that was read.
#[derive(Clone, Debug)]
pub struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: NodeId,
}

impl<'a> Pickle<'a> {
    /// The value that was pickled.
    #[must_use]
    pub const fn root(&self) -> NodeId {
        self.root
    }

    /// A value.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node<'a> {
        self.nodes.get(id.0 as usize).unwrap_or(&Node::None)
    }

    /// The value of a key of a dict.
    #[must_use]
    pub fn get(&self, dict: NodeId, key: &str) -> Option<NodeId> {
        let Node::Dict(entries) = self.node(dict) else {
            return None;
        };
        let is_key = |id: &NodeId| match self.node(*id) {
            Node::Text(text) => *text == key,
            Node::Bytes(bytes) => *bytes == key.as_bytes(),
            _ => false,
        };
        let mut entries = entries.iter().rev();
        entries.find(|(id, _)| is_key(id)).map(|(_, value)| *value)
    }

    /// The items of a list or a tuple.
    #[must_use]
    pub fn items(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.node(id) {
            Node::List(items) | Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A number that is not negative.
    #[must_use]
    pub fn unsigned(&self, id: NodeId) -> Option<u64> {
        match self.node(id) {
            Node::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A text.
    #[must_use]
    pub fn text(&self, id: NodeId) -> Option<&'a str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            Node::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// Reads a pickle. Nothing is executed, whatever it holds; time and memory are in proportion to its length.
///
/// # Errors
/// See [`PickleProblem`].
pub fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Pickle<'a>, PickleError> {
    let mut machine = Machine {
        bytes,
        at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        limits,
    };
    loop {
        let offset = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                return Ok(Pickle {
                    nodes: machine.nodes,
                    root,
                });
            }
            Err(problem) => return Err(PickleError { offset, problem }),
        }
    }
}

struct Machine<'a, 'l> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<NodeId>,
    /// Heights of the stack.
    marks: Vec<usize>,
    /// Only looked up, never walked.
    memo: HashMap<u32, NodeId>,
    limits: &'l Limits,
}

type Step<T> = Result<T, PickleProblem>;

impl<'a> Machine<'a, '_> {
    /// Runs one opcode; the result at the last one.
    fn step(&mut self) -> Step<Option<NodeId>> {
        let [opcode] = self.array()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            // PROTO, FRAME: nothing follows from them.
            0x80 => drop(self.array::<1>()?),
            0x95 => drop(self.array::<8>()?),
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.string(opcode)?,
            b'}' | b']' | b')' | b'd' | b'l' | b't' | 0x85..=0x87 => self.container(opcode)?,
            b'a' | b'e' | b's' | b'u' => self.extend(opcode)?,
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.memo(opcode)?,
            b'(' => self.mark()?,
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            _ => return Err(refused(opcode)),
        }
        Ok(None)
    }

    fn number(&mut self, opcode: u8) -> Step<()> {
        let node = match opcode {
            b'J' => Node::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Node::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Node::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let len = u8::from_le_bytes(self.array()?);
                self.long(len.into())?
            }
            _ => {
                let len = u32::from_le_bytes(self.array()?);
                self.long(len.into())?
            }
        };
        self.push(node)
    }

    /// A number in two's complement, least significant byte first.
    fn long(&mut self, len: u64) -> Step<Node<'a>> {
        let bytes = self.take(len)?;
        if bytes.len() > 16 {
            return Err(PickleProblem::TooLarge {
                what: "bytes in a number",
                limit: 16,
            });
        }
        let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if is_negative { 0xff } else { 0 }; 16];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(Node::Int(i128::from_le_bytes(wide)))
    }

    fn string(&mut self, opcode: u8) -> Step<()> {
        let len = match opcode {
            b'X' | b'B' => u32::from_le_bytes(self.array()?).into(),
            b'T' => {
                let len = i32::from_le_bytes(self.array()?);
                let malformed = PickleProblem::Malformed {
                    what: "a length that is not negative",
                };
                u64::try_from(len).map_err(|_| malformed)?
            }
            0x8d | 0x8e | 0x96 => u64::from_le_bytes(self.array()?),
            _ => u8::from_le_bytes(self.array()?).into(),
        };
        let bytes = self.take(len)?;
        let node =
            match opcode {
                // Python lets lone surrogates through; nothing that is read here has any.
                b'X' | 0x8c | 0x8d => Node::Text(std::str::from_utf8(bytes).map_err(|_| {
                    PickleProblem::Malformed {
                        what: "text in UTF-8",
                    }
                })?),
                _ => Node::Bytes(bytes),
            };
        self.push(node)
    }

    fn container(&mut self, opcode: u8) -> Step<()> {
        let node = match opcode {
            b'}' => Node::Dict(Vec::new()),
            b']' => Node::List(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b'd' => Node::Dict(pairs(&self.pop_mark()?)?),
            b'l' => Node::List(self.pop_mark()?),
            b't' => Node::Tuple(self.pop_mark()?),
            _ => {
                let len = usize::from(opcode - 0x84);
                let from = self.above_mark(len)?;
                Node::Tuple(self.stack.split_off(from))
            }
        };
        self.push(node)
    }

    /// Adds what is on the stack to the container below it.
    fn extend(&mut self, opcode: u8) -> Step<()> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let from = self.above_mark(2)?;
                self.stack.split_off(from)
            }
            _ => self.pop_mark()?,
        };
        let container = self.top()?;
        let malformed = |what| Err(PickleProblem::Malformed { what });
        match (opcode, self.nodes.get_mut(container.0 as usize)) {
            (b'a' | b'e', Some(Node::List(list))) => list.extend(items),
            (b's' | b'u', Some(Node::Dict(dict))) => dict.extend(pairs(&items)?),
            (b'a' | b'e', _) => return malformed("a list"),
            _ => return malformed("a dict"),
        }
        Ok(())
    }

    fn memo(&mut self, opcode: u8) -> Step<()> {
        let key = match opcode {
            b'q' | b'h' => u8::from_le_bytes(self.array()?).into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
        };
        if matches!(opcode, b'h' | b'j') {
            let id = self.memo.get(&key).copied();
            let what = "a value that was put aside before";
            return self.push_id(id.ok_or(PickleProblem::Malformed { what })?);
        }
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn mark(&mut self) -> Step<()> {
        if self.marks.len() >= self.limits.depth {
            return Err(PickleProblem::TooLarge {
                what: "containers inside of each other",
                limit: self.limits.depth,
            });
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_mark(&mut self) -> Step<Vec<NodeId>> {
        let what = "a mark";
        let mark = self.marks.pop().ok_or(PickleProblem::Malformed { what })?;
        Ok(self.stack.split_off(mark))
    }

    fn pop(&mut self) -> Step<NodeId> {
        self.above_mark(1)?;
        self.stack.pop().ok_or(PickleProblem::Malformed {
            what: "a value on the stack",
        })
    }

    fn top(&self) -> Step<NodeId> {
        let from = self.above_mark(1)?;
        self.stack
            .get(from)
            .copied()
            .ok_or(PickleProblem::Malformed {
                what: "a value on the stack",
            })
    }

    /// The height of the stack below its last `count` values, which are all above the last mark.
    fn above_mark(&self, count: usize) -> Step<usize> {
        let mark = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count);
        from.filter(|from| *from >= mark)
            .ok_or(PickleProblem::Malformed {
                what: "more values on the stack",
            })
    }

    fn push(&mut self, node: Node<'a>) -> Step<()> {
        let id = NodeId(self.nodes.len() as u32);
        if self.nodes.len() >= self.limits.nodes.min(u32::MAX as usize) {
            return Err(PickleProblem::TooLarge {
                what: "values",
                limit: self.limits.nodes,
            });
        }
        self.nodes.push(node);
        self.push_id(id)
    }

    fn push_id(&mut self, id: NodeId) -> Step<()> {
        self.stack.push(id);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| PickleProblem::Truncated)
    }

    fn take(&mut self, len: u64) -> Step<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = usize::try_from(len).map_err(|_| PickleProblem::Truncated)?;
        let taken = rest.get(..len).ok_or(PickleProblem::Truncated)?;
        self.at += len;
        Ok(taken)
    }
}

fn pairs(items: &[NodeId]) -> Step<Vec<(NodeId, NodeId)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(PickleProblem::Malformed {
            what: "a value for every key",
        });
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

fn refused(opcode: u8) -> PickleProblem {
    let name = match opcode {
        b'c' => "GLOBAL",
        b'R' => "REDUCE",
        b'b' => "BUILD",
        b'i' => "INST",
        b'o' => "OBJ",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        0x81 => "NEWOBJ",
        0x82..=0x84 => "EXT",
        0x92 => "NEWOBJ_EX",
        0x93 => "STACK_GLOBAL",
        0x97 | 0x98 => "BUFFER",
        _ => return PickleProblem::UnknownOpcode { opcode },
    };
    PickleProblem::RunsCode { opcode, name }
}
