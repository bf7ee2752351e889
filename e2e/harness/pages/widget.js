// Starts the widget as an app's own page does, and shows how it ended.
const { ending, ...config } = JSON.parse(document.getElementById('widget').dataset.config);
const el = '#widget';
const show = (result) => { document.getElementById('result').textContent = JSON.stringify(result); };
const showTokens = (t) => show({ idToken: t?.idToken?.idToken, accessToken: t?.accessToken?.accessToken, refreshToken: t?.refreshToken?.refreshToken });
const failed = (error) => show({ error: String(error) });

const signIn = new OktaSignIn(config);
signIn.on('afterError', (context, error) => console.log('widget error', context && context.formName, error && error.xhr && error.xhr.status));
if (ending !== 'untouched') {
  // When the poll brings the interaction code, generation 3 lets the client
  // below it redeem the code, and then misses what it needs to go on (7.49.0).
  signIn.authClient.options.idx = { ...signIn.authClient.options.idx, exchangeCodeForTokens: false };
}
if (ending === 'tokens') signIn.showSignInToGetTokens({ el }).then(showTokens, failed);
else signIn.renderEl({ el }, (result) => showTokens(result.tokens), failed); // may leave for another address by itself
