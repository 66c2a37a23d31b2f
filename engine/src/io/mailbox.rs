//! Messages into a core, from its neighbours and from foreign threads.
