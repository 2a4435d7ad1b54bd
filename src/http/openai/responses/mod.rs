//! OpenAI's Responses: <https://platform.openai.com/docs/api-reference/responses>.
//! Nothing is stored here, so whatever needs an earlier answer is refused.
mod input;
pub mod reply;
pub mod request;
mod shell;
pub mod stream;
