"""The search for backgrounds that two sets share: pictures of one scene, recognised by their pixels."""
