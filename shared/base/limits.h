/*
 * Every limit of the project, with its reason. A loop over input names one of these.
 */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* Input lines. */
#define LIMIT_LINE_SMTP    4096  /* RFC 5321 4.5.3.1.4 asks for 512; extensions add to it (RFC 5321 4.1.1) */
#define LIMIT_LINE_POP3    1024  /* RFC 2449 4 asks for 255; SASL responses (RFC 5034) may be longer */
#define LIMIT_LINE_IMAP    65536 /* RFC 7162 4 asks for 8192; long sequence sets of real clients */
#define LIMIT_LINE_PREAUTH 12288 /* before login: RFC 5034 4 and RFC 4954 4 ask for 12288 octets of base64 */

/* IMAP. */
#define LIMIT_LITERAL       (1u << 20) /* literals that are held in memory (strings, not APPEND) */
#define LIMIT_COMMAND       (4u << 20) /* one IMAP command with its string literals */
#define LIMIT_ARGUMENTS     4096       /* list elements in one command */
#define LIMIT_SEARCH_DEPTH  64         /* nested NOT, OR, ( ) */
#define LIMIT_LIST_DEPTH    16         /* nested parentheses elsewhere */
#define LIMIT_NUMSET_RANGES (1u << 20) /* 8 MB: every second message of two million */

#define LIMIT_WATCHED 512 /* other mailboxes that NOTIFY watches: each is looked at once a second */

/* Messages. */
#define LIMIT_MIME_DEPTH   64             /* nested multiparts and message/rfc822 */
#define LIMIT_MIME_PARTS   10000          /* parts of one message, all levels */
#define LIMIT_HEADER       (1u << 20)     /* one message header, or one part's */
#define LIMIT_HEADER_FIELD (256u << 10)   /* one unfolded field */
#define LIMIT_MIME_TEXT    (4u << 20)     /* bytes of types, parameters, nested envelopes kept of one message */
#define LIMIT_BOUNDARY     1000           /* RFC 2046 5.1.1 allows 70; a longer line than RFC 5322 2.1.1's is none */
#define LIMIT_PARAMETERS   128            /* of one Content-Type or Content-Disposition */
#define LIMIT_ADDRESSES    10000          /* in one address list */
#define LIMIT_KEYWORDS     64             /* user keywords per mailbox */
#define LIMIT_KEYWORD      128            /* bytes of one keyword */
#define LIMIT_MESSAGE_SIZE (100ull << 20) /* default of message_size */

/* SMTP. */
#define LIMIT_RECIPIENTS 1000 /* RFC 5321 4.5.3.1.8 asks for 100 */
#define LIMIT_PATH       256  /* RFC 5321 4.5.3.1.3, with the brackets */
#define LIMIT_LOCAL_PART 64   /* RFC 5321 4.5.3.1.1; longer ones are no users here */
#define LIMIT_DOMAIN     255  /* RFC 5321 4.5.3.1.2 */
#define LIMIT_RECEIVED   100  /* RFC 5321 6.3: trace header fields before a loop is assumed */
#define LIMIT_POSTMEN                                                                                                  \
    12                        /* delivers at work or waiting for a connection, two processes each: those               \
                                 of 256 connections stay below the slice's TasksMax */
#define LIMIT_LOCAL_PLACES 32 /* connections of one user to sendmail's socket: an eighth of the unit's */

/* Talking to the servers of others (relay-session). */
#define LIMIT_REPLY_LINE   2048    /* RFC 5321 4.5.3.1.5 asks for 512; some write whole paragraphs */
#define LIMIT_REPLY_LINES  128     /* of one reply; the longest EHLO seen has 20 */
#define LIMIT_SCRAM_ROUNDS 1000000 /* a hostile server must not keep us hashing: half a second */

/* Sessions. */
#define LIMIT_BAD_COMMANDS 20   /* in a row, then the connection ends */
#define LIMIT_AUTH_TRIES   3    /* per connection */
#define LIMIT_USER         64   /* bytes of a login name */
#define LIMIT_PASSWORD     1024 /* bytes of a password */
#define LIMIT_CERTIFICATES 16   /* of ours, for different names: each is read for each connection */
#define TIMEOUT_PREAUTH    180  /* seconds to log in: some clients ask their user meanwhile */
#define TIMEOUT_IMAP       1800 /* RFC 9051 5.4: at least 30 minutes */
#define TIMEOUT_POP3       600  /* RFC 1939 3: at least 10 minutes */
#define TIMEOUT_SMTP       300  /* RFC 5321 4.5.3.2.7: at least 5 minutes */
#define TIMEOUT_WRITE      300  /* a peer that does not read */
#define TIMEOUT_LOCK       30   /* seconds until a locked mailbox is a temporary failure */
#define TIMEOUT_POSTMAN    10   /* a deliver without a message: a connection that pauses holds nobody */
#define TIMEOUT_COMMAND    300  /* a user's command; its client waits ten minutes (RFC 5321 4.5.3.2.6) */
#define TIMEOUT_AUTH       60   /* a PAM stack that hangs */
#define TIMEOUT_PAM_CLOSE  10   /* seconds for PAM to close a session when its connection has ended */

/* Frames between our own processes. */
#define LIMIT_FRAME    (64u << 10) /* payload of one frame */
#define LIMIT_UNREAD   (56u << 10) /* of it, input for a session: other things go with that */
#define LIMIT_NOTE     256         /* bytes of client text in one note for the log */
#define LIMIT_NOTES    8           /* notes of one connection */
#define LIMIT_SASL     12288       /* one decoded SASL message (RFC 4954 4) */
#define LIMIT_ADDRESS  64          /* a printed network address */
#define LIMIT_PATHNAME 4096        /* a path handed on in a frame */

/* DNS. */
#define LIMIT_DNS_RECORDS   100         /* of one answer that are looked at; the largest real sets have about 50 */
#define LIMIT_DNS_PACKET    65535       /* one answer over TCP (RFC 1035 4.2.2) */
#define LIMIT_DNS_ENTRIES   1000        /* resource records of one packet that are walked over */
#define LIMIT_DNS_CNAMES    10          /* in one chain; RFC 1034 3.6.2 expects one */
#define LIMIT_DNS_TEXT      4096        /* one joined TXT record; SPF and MTA-STS need a few hundred */
#define LIMIT_DNS_OPEN      16          /* questions under way at the same time */
#define LIMIT_DNS_ANSWER    (48u << 10) /* bytes of all records of one answer: a frame has room for them */
#define LIMIT_DNS_HOSTS     20          /* mail exchangers of one domain whose addresses are looked up */
#define LIMIT_DNS_ADDRESSES 16          /* addresses of one host, each family (RFC 5321 5.1 allows a limit) */
#define LIMIT_DNS_STARTS    8           /* times that a resolver which died is started again by one process */
#define TIMEOUT_DNS         30          /* seconds for one step of a lookup, retries included */

/* Mailbox names. */
#define LIMIT_MAILBOX_NAME  1024   /* bytes of a whole name */
#define LIMIT_MAILBOX_DEPTH 20     /* levels of folders */
#define LIMIT_MAILBOXES     100000 /* names looked at by one LIST */

/* Configuration. */
#define LIMIT_CONF_FILE  (256u << 10)
#define LIMIT_CONF_VALUE 1024

#endif
