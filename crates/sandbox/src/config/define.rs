//! What the table of options is written with: the description of one option, and the macro that makes
//! the configuration, its getters and the builder's setters of the rows.
//!
//! Everything else that names options is checked against the same rows: Python's and the reference page
//! by a test beside the table, the command's flags because they are made of it.

use super::SandboxConfig;

/// What the other interfaces say of an option; its name is the same in all of them.
#[derive(Debug)]
pub struct OptionInfo {
    /// Its name in JSON, Python and Rust.
    pub name: &'static str,
    /// The words that it can be, when there are only a few.
    pub words: &'static [&'static str],
    /// The type of Python's field; `str` when it is empty.
    pub python: &'static str,
    /// The type that Python takes; that of `words`, or of the field, when it is empty.
    pub python_takes: &'static str,
    /// The default, where the field itself does not hold it, because nobody having chosen is a value too.
    pub default: fn() -> String,
    /// The default in Python; nothing for the one option that has none. Here and in the texts below
    /// `{default}` stands for the default.
    pub python_default: &'static str,
    /// The text of Python's docstring.
    pub docs: &'static str,
    /// The column "default" of the reference page.
    pub page_default: &'static str,
    /// The column "allowed" of the reference page.
    pub allowed: &'static str,
    /// How the command takes it.
    pub flag: Flag,
    /// The letter of the flag, such as `-m`.
    pub short: Option<char>,
    /// How the command's help calls the flag's value; the option's own name when it is empty.
    pub value_name: &'static str,
    /// The text of the command's help.
    pub help: &'static str,
}

/// How the command takes an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// A text, which the configuration judges.
    Text,
    /// A whole number.
    Number,
    /// Seconds.
    Seconds,
    /// A flag without a value, for an option that is true or false.
    Switch,
    /// In words of the command's own.
    Own,
    /// Not at all.
    None,
}

impl OptionInfo {
    /// Nothing but what each row has to say.
    pub(super) const EMPTY: Self = Self {
        name: "",
        words: &[],
        python: "",
        python_takes: "",
        default: String::new,
        python_default: "",
        docs: "",
        page_default: "",
        allowed: "",
        flag: Flag::None,
        short: None,
        value_name: "",
        help: "",
    };

    /// A text of the row with the default in it.
    pub fn filled(&self, text: &str) -> String {
        let default = match (self.default)() {
            default if default.is_empty() => {
                let written = SandboxConfig::defaults().written().remove(self.name);
                written.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
            }
            default => default,
        };
        text.replace("{default}", &default)
    }

    /// Whether it describes the machine. The others say where it is kept, and are arguments of Python's
    /// `Sandbox(...)` itself.
    pub fn is_of_machine(&self) -> bool {
        !self.docs.is_empty()
    }
}

/// Makes the configuration of the rows of a table. A row has the name of an option, the type of its
/// field, which is its default when nothing is given, and:
///
/// * `get`: what the getter gives, and how;
/// * `set`, if the builder's setter takes a single value: its type, and how that becomes JSON;
/// * `read`: makes a field of the option's name and JSON;
/// * `write`: makes JSON of the field;
/// * what else there is to say of it in an [`OptionInfo`].
macro_rules! options {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident: $field:ty {
            get: $get:ty = $by:expr,
            $(set: $given:ty = $to_json:expr,)?
            read: $read:expr,
            write: $write:expr,
            $($about:ident: $text:expr,)*
        }
    )+) => {
        /// A checked, immutable configuration.
        ///
        /// ```
        /// use sandbox::{NetworkMode, SandboxConfig};
        ///
        /// let config = SandboxConfig::builder("debian")
        ///     .memory("2G")
        ///     .network_mode(NetworkMode::Full)
        ///     .build()?;
        /// assert_eq!(config.memory().map(|memory| memory.bytes()), Some(2 << 30));
        /// assert_eq!(SandboxConfig::from_json(&config.to_json())?, config);
        /// # Ok::<(), sandbox::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        pub struct SandboxConfig {
            $(pub(super) $name: $field,)+
        }

        /// Every option of a configuration, in the order in which Python takes them.
        pub const OPTIONS: &[OptionInfo] = &[
            $(OptionInfo { name: stringify!($name), $($about: $text,)* ..OptionInfo::EMPTY },)+
        ];

        impl SandboxConfig {
            /// What a configuration is when nothing was given.
            pub(super) fn defaults() -> Self {
                Self { $($name: Default::default(),)+ }
            }

            /// Sets an option of its JSON form; `false` when there is none of the name.
            pub(super) fn read_option(&mut self, name: &str, value: Value) -> Result<bool> {
                $(if name == stringify!($name) {
                    self.$name = ($read)(stringify!($name), value)?;
                    return Ok(true);
                })+
                Ok(false)
            }

            /// The JSON form of each option.
            pub(super) fn written(&self) -> Map<String, Value> {
                let mut options = Map::new();
                $(options.insert(stringify!($name).to_owned(), ($write)(&self.$name));)+
                options
            }

            $(
                $(#[doc = $doc])+
                pub fn $name(&self) -> $get {
                    ($by)(&self.$name)
                }
            )+
        }

        impl SandboxConfigBuilder {
            $($(
                #[doc = concat!("Sets [`SandboxConfig::", stringify!($name), "`].")]
                pub fn $name(self, $name: $given) -> Self {
                    self.option(stringify!($name), ($to_json)($name))
                }
            )?)+
        }
    };
}

pub(super) use options;
