"""Messages: envelope and content, octets in and octets out. Pure.

envelope  what travels beside the content; queue ids
header    where the header ends, its raw fields, what is doubtful about it
authors   whose names a message bears (rights are checked on these)
fixup     what RFC 6409 8 adds and removes
received  our trace field
dsn       bounces and delay warnings; advice has their words
date      dates as header fields write them
"""
