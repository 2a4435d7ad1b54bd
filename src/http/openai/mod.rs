//! OpenAI's API as we serve it.
